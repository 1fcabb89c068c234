import platform
import resource

import pytest
import torch

import kinopaint


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_model_on_the_cpu_keeps_the_memory_of_large_tensors(model_folder):
    """48 MB are not asked of the system again, which would be 12,000 new pages."""
    kinopaint.load_model(model_folder, device="cpu")

    def new_pages() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(12 * 2**20)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    new_pages()
    assert new_pages() < 1000

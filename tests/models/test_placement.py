import platform
import subprocess
import sys

import pytest

PAGES = """
import resource, sys, torch, kinopaint
kinopaint.load_model(sys.argv[1], device="cpu")

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(12 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

new_pages(), new_pages()  # something small may fall into the first one's hole, so that the next one needs another
print(max(new_pages() for _ in range(3)))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_model_on_the_cpu_keeps_the_memory_of_large_tensors(model_folder):
    """48 MB are not asked of the system again, which would be 12,000 new pages; in a process without other tensors."""
    run = subprocess.run(
        [sys.executable, "-c", PAGES, str(model_folder)], capture_output=True, text=True, timeout=120, check=True
    )
    assert int(run.stdout.split()[-1]) < 1000

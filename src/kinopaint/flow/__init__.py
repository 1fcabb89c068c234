"""Optical flow: estimators behind one protocol, warping, visibility, resizing, and a cache on disk."""

from kinopaint.flow.cache import CachedFlow as CachedFlow
from kinopaint.flow.dis import DisFlow as DisFlow
from kinopaint.flow.estimator import FlowEstimator as FlowEstimator
from kinopaint.flow.occlusion import inside as inside
from kinopaint.flow.occlusion import motion_boundary as motion_boundary
from kinopaint.flow.occlusion import occluded as occluded
from kinopaint.flow.occlusion import visible as visible
from kinopaint.flow.pair import FlowPair as FlowPair
from kinopaint.flow.pair import flow_pair as flow_pair
from kinopaint.flow.raft import RaftFlow as RaftFlow
from kinopaint.flow.warp import resize_flow as resize_flow
from kinopaint.flow.warp import warp as warp

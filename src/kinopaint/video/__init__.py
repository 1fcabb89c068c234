"""Video in, video out: streaming, exact times, tagged colours. PyAV, NumPy and OpenCV only; no torch."""

from kinopaint.video.clip import ClipReader as ClipReader
from kinopaint.video.codecs import choose_codec as choose_codec
from kinopaint.video.delivery import DeliveryCheck as DeliveryCheck
from kinopaint.video.delivery import DeliveryPlan as DeliveryPlan
from kinopaint.video.delivery import check_delivery as check_delivery
from kinopaint.video.frame import Frame as Frame
from kinopaint.video.frame import Image as Image
from kinopaint.video.isolated import open_clip as open_clip
from kinopaint.video.isolated import probe as probe
from kinopaint.video.limits import Limits as Limits
from kinopaint.video.probe import ClipInfo as ClipInfo
from kinopaint.video.probe import StreamInfo as StreamInfo
from kinopaint.video.sizing import SizePlan as SizePlan
from kinopaint.video.sizing import parse_size as parse_size
from kinopaint.video.sizing import plan_size as plan_size
from kinopaint.video.timecode import Selection as Selection
from kinopaint.video.timecode import parse_time as parse_time
from kinopaint.video.writer import ClipWriter as ClipWriter
from kinopaint.video.writer import WrittenClip as WrittenClip
from kinopaint.video.writer import open_writer as open_writer

"""What libjpeg warns about while it decodes a JPEG. Pillow silences it, and so shows damaged photos as whole ones.

The library that Pillow brings is asked once more, through its C interface: entropy decoding, at an eighth of the size.
This is done for files that Pillow has decoded, so that fatal errors are not to be expected.
"""

import ctypes
import io
import threading
from functools import cache

from PIL import Image, _imaging, features

STRUCT_BYTES = {62: 632, 80: 656}
"""Size of jpeg_decompress_struct by the version of libjpeg's interface, on machines of 64 bits."""
TEXT_BYTES = 200  # JMSG_LENGTH_MAX
SHRINK = 8
_END, _SCAN = b"\xff\xd9", b"\xff\xda"
_FUNCTIONS = (
    "jpeg_std_error", "jpeg_CreateDecompress", "jpeg_mem_src", "jpeg_read_header", "jpeg_start_decompress",
    "jpeg_read_scanlines", "jpeg_finish_decompress", "jpeg_destroy_decompress",
)  # fmt: skip
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Formatter = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p)


class _Errors(ctypes.Structure):
    """The beginning of jpeg_error_mgr, and room for the rest."""

    _fields_ = (
        ("error_exit", _Handler),
        ("emit_message", ctypes.c_void_p),
        ("output_message", _Handler),
        ("format_message", _Formatter),
        ("rest", ctypes.c_char * 512),
    )


class _Decompress(ctypes.Structure):
    """The beginning of jpeg_decompress_struct, the same in all versions of libjpeg, and room for the rest."""

    _fields_ = (
        ("err", ctypes.c_void_p),
        ("mem_progress_client_data", ctypes.c_void_p * 3),
        ("is_decompressor_global_state", ctypes.c_int * 2),
        ("src", ctypes.c_void_p),
        ("image_size", ctypes.c_uint * 2),
        ("num_components", ctypes.c_int),
        ("jpeg_color_space", ctypes.c_int),
        ("out_color_space", ctypes.c_int),
        ("scale_num", ctypes.c_uint),
        ("scale_denom", ctypes.c_uint),
        ("output_gamma", ctypes.c_double),
        ("buffered_image_to_enable_2pass_quant", ctypes.c_int * 12),
        ("output_width", ctypes.c_uint),
        ("output_height", ctypes.c_uint),
        ("out_color_components", ctypes.c_int),
        ("output_components", ctypes.c_int),
        ("rec_outbuf_height", ctypes.c_int),
        ("actual_number_of_colors", ctypes.c_int),
        ("colormap", ctypes.c_void_p),
        ("output_scanline", ctypes.c_uint),
        ("rest", ctypes.c_char * 1024),
    )


class _Reading:
    """One JPEG on its way through libjpeg: `said` is its first warning, `over` whether it has ended."""

    def __init__(self, library: ctypes.CDLL, version: int, content: bytes) -> None:
        self.library, self.version, self.content = library, version, content
        self.said: str | None = None
        self.over = threading.Event()
        # The callbacks must live as long as libjpeg may call them.
        self._warned, self._failed = _Handler(self._listen), _Handler(self._park)
        self._errors, self._state = _Errors(), _Decompress()

    def run(self) -> None:
        """Reads all of it, in a thread that may be lost (see _park)."""
        state, library, here = self._state, self.library, ctypes.byref(self._state)
        library.jpeg_std_error(ctypes.byref(self._errors))
        self._errors.output_message, self._errors.error_exit = self._warned, self._failed
        state.err = ctypes.addressof(self._errors)
        library.jpeg_CreateDecompress(here, self.version, ctypes.c_size_t(STRUCT_BYTES[self.version]))
        library.jpeg_mem_src(here, ctypes.c_char_p(self.content), ctypes.c_ulong(len(self.content)))
        library.jpeg_read_header(here, 1)
        state.out_color_space = state.jpeg_color_space
        state.scale_num, state.scale_denom = 1, SHRINK
        library.jpeg_start_decompress(here)
        row = ctypes.create_string_buffer(state.output_width * state.output_components)
        rows = (ctypes.c_void_p * state.rec_outbuf_height)(*[ctypes.addressof(row)] * state.rec_outbuf_height)
        while state.output_scanline < state.output_height:
            library.jpeg_read_scanlines(here, rows, state.rec_outbuf_height)
        library.jpeg_finish_decompress(here)
        library.jpeg_destroy_decompress(here)
        self.over.set()

    def _listen(self, state: int) -> None:
        """Takes down a message; libjpeg's own emit_message hands on the first warning only."""
        text = ctypes.create_string_buffer(TEXT_BYTES)
        self._errors.format_message(state, text)
        self.said = text.value.decode("ascii", "backslashreplace")

    def _park(self, state: int) -> None:
        """Takes down a fatal error. libjpeg must not go on after it, so this thread waits until the process ends."""
        self._listen(state)
        self.over.set()
        threading.Event().wait()


def find_damage(content: bytes) -> str | None:
    """What libjpeg warns about in a JPEG that Pillow could decode; None if it finds nothing wrong.

    Where libjpeg cannot be asked (see why_unchecked), only a missing end marker is found.
    """
    library = _library()
    if isinstance(library, str):
        return None if content.rfind(_END) > content.rfind(_SCAN) else "Premature end of JPEG file"
    return first_warning(library, _version(), content)


def why_unchecked() -> str | None:
    """Why damage within JPEGs goes unseen in this installation; None if it is seen, as is usual."""
    library = _library()
    return library if isinstance(library, str) else None


def libjpeg_name() -> str:
    """Pillow's libjpeg, and whether JPEGs are checked for damage with it, for people."""
    turbo, interface = features.version("libjpeg_turbo"), features.version("jpg")
    name = f"libjpeg-turbo {turbo}" if turbo else f"libjpeg {interface}"
    return f"{name}, {why_unchecked() or 'which is asked for damage'}"


def first_warning(library: ctypes.CDLL, version: int, content: bytes) -> str | None:
    """What a libjpeg of this interface (62 for 6.2) says first about a JPEG; None for nothing."""
    reading = _Reading(library, version, content)
    threading.Thread(target=reading.run, name="libjpeg", daemon=True).start()
    reading.over.wait()
    return reading.said


@cache
def _library() -> ctypes.CDLL | str:
    """Pillow's libjpeg, or why it cannot be asked."""
    if _version() not in STRUCT_BYTES or ctypes.sizeof(ctypes.c_void_p) != 8:
        return f"the interface of Pillow's libjpeg, {features.version('jpg')}, is not known"
    try:
        # Functions are looked up in Pillow's module and what it depends on: the very library that Pillow uses.
        library = ctypes.CDLL(_imaging.__file__)
    except OSError as error:
        return f"Pillow's libjpeg cannot be opened: {error}"
    missing = [name for name in _FUNCTIONS if not hasattr(library, name)]
    if missing:
        return f"Pillow's libjpeg has no {missing[0]}"
    whole, cut = _samples()
    if first_warning(library, _version(), whole) is not None or first_warning(library, _version(), cut) is None:
        return "Pillow's libjpeg warns of a good picture, or not of a damaged one"
    return library


def _version() -> int:
    """62 for the interface 6.2; 0 if there is none."""
    digits = (features.version("jpg") or "").replace(".", "")
    return int(digits) if digits.isdecimal() else 0


def _samples() -> tuple[bytes, bytes]:
    """A JPEG, and the same without the end of its scan."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "JPEG")
    content = buffer.getvalue()
    return content, content[:-200] + _END

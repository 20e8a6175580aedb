"""Takes the memory of a card, but for a rest, as long as it is held."""

import ctypes

import outcome

NO_DEVICE = 100


class Hog:
    def __init__(self, holds=True):
        self.left, self.pieces, self.holds = 0, [], holds

    def call(self, name, *args):
        code = getattr(self.driver, name)(*args)
        if code == NO_DEVICE:
            raise outcome.Ended(outcome.NO_CARD, "the driver shows no card")
        if code:
            raise RuntimeError(f"{name}: {code}")

    def memory(self):
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def free(self):
        return self.memory()[0]

    def __enter__(self):
        try:
            self.driver = ctypes.CDLL("libcuda.so.1")
        except OSError as error:
            raise outcome.Ended(outcome.NO_CARD, "no NVIDIA driver") from error
        device, context = ctypes.c_int(), ctypes.c_void_p()
        self.call("cuInit", 0)
        self.call("cuDeviceGet", ctypes.byref(device), 0)
        self.call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
        self.call("cuCtxSetCurrent", context)
        if not self.holds:
            return self
        # Enough to open the card and begin.
        self.leave = min(1 << 30, self.memory()[1] // 8)
        # Plain memory, in pieces that a fragmented card has too.
        while self.free() > self.leave + (64 << 20):
            at = ctypes.c_uint64()
            size = min(4 << 30, self.free() - self.leave)
            self.call("cuMemAlloc_v2", ctypes.byref(at), ctypes.c_size_t(size))
            self.pieces.append(at)
        self.left = self.free()
        return self

    def __exit__(self, *_):
        for at in self.pieces:
            self.driver.cuMemFree_v2(at)

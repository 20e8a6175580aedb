// All kernels, as one module of the card.
#include "conformance.cu"
#include "rms_norm.cu"
#include "rms_norm_fast.cu"
#include "rows.cu"
#include "tile.cu"

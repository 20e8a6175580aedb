// What attention kernels share: the work lists that the host makes, and who sees whom.
//
// Causal attention over packed segments, some of which continue a trunk; grouped heads, soft-capping, windows. A segment's
// keys are joined: the trunk's first, then its own; position c of the joined keys is row trunk0 + c or own0 + c - trunk.
// Query row q of the segment stands at position trunk + q - own0.
#pragma once
#include "gpu.h"

// One block's rows: queries (forward, dq) or keys (dk, dv).
struct Tile { int row0, rows, trunk0, trunk, own0; };
// Queries that see keys of a tile of keys: rows first..end of one segment, the first at position `at`. A tile's ranges are
// range_at[tile] up to range_at[tile + 1].
struct Range { int first, end, at; };
// scale: of dot products, log2 e included; with a cap divided by it, and the cap times log2 e. cap 0, window 0: none.
struct Form { int heads, kv_heads; float scale, cap; int window; };

STRUCTURE(Tile)
STRUCTURE(Range)
STRUCTURE(Form)

constexpr float NONE = -1e30f, LOG2_E = 1.4426950409f;

// Whether the query at position q sees the key at position c.
GPU bool sees(const Form &f, int q, int c) { return c <= q && (f.window == 0 || c + f.window > q); }

// Numbers of a row that a thread reads and writes at once.
#pragma once
#include "gpu.h"

constexpr int COLS = 8;
union Cols {
  uint4 v;
  bf16 e[COLS];
};
// As many in f32.
union WideCols {
  uint4 v[2];
  float e[COLS];
};

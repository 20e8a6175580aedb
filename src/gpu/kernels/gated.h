// Activations of gated linear units. 0: silu, 1: tanh's gelu.
#pragma once
#include "gpu.h"

namespace gated {
// Value and slope of the activation.
GPU void activate(int activation, float x, float &value, float &slope) {
  if (activation == 0) {
    // s = sigmoid(x); (x s)' = s (1 + x (1 - s))
    const float s = 1.0f / (1.0f + exp_(-x));
    value = x * s;
    slope = s * (1.0f + x * (1.0f - s));
  } else {
    // t = tanh(c (x + k x^3)), c = sqrt(2 / pi); (x (1 + t) / 2)' = (1 + t) / 2 + x (1 - t^2) c (1 + 3 k x^2) / 2
    const float c = 0.7978845608f, k = 0.044715f, square = x * x;
    const float t = tanh_(c * x * (1.0f + k * square));
    const float plain = 0.5f * (1.0f + t);
    value = x * plain;
    slope = plain + 0.5f * x * (1.0f - t * t) * c * (1.0f + 3.0f * k * square);
  }
}
} // namespace gated

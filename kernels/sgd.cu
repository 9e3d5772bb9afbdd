// sgd: stochastic gradient descent with Nesterov momentum over a range of parameters.
//
// With g = gradient + decay * w:  v = momentum * v + g,  w -= rate * (g + momentum * v).
// Nothing happens when the loss is not finite: the CPU, which runs ahead, learns of it later.
#include "common.cuh"

struct SgdParams {
  float* w;
  const float* gradient;
  float* velocity;
  const float* loss;
  const float* rate;
  float momentum;
  float decay;
  uint32_t undecayed;  // parameters at the start without weight decay
  uint32_t len;
};
SMASH_PARAMS(SgdParams, w, gradient, velocity, loss, rate, momentum, decay, undecayed, len)

struct Update {
  template <int V>
  static __device__ void at(const SgdParams& p, uint32_t i) {
    Vec<V> w = load<V>(p.w + i), v = load<V>(p.velocity + i);
    const Vec<V> gradient = load<V>(p.gradient + i);
    UNROLL for (int j = 0; j < V; j++) {
      const float g = gradient.at[j] + (i + j < p.undecayed ? 0.f : p.decay) * w.at[j];
      v.at[j] = p.momentum * v.at[j] + g;
      w.at[j] -= *p.rate * (g + p.momentum * v.at[j]);
    }
    store<V>(p.w + i, w);
    store<V>(p.velocity + i, v);
  }
};

SMASH_KERNEL(256, sgd_update, SgdParams) {
  if (isfinite(*p.loss)) each_element<Update>(p, p.len, aligned16(p.w, p.gradient, p.velocity));
}

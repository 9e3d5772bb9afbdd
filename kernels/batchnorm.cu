// batchnorm: y = act(gamma * (x - mean) * rstd + beta) per channel, and its gradients; see
// src/ops/batchnorm. One block per channel: its row of H*W*N floats is read several times, and
// comes from the L2 cache after the first.
//
// _v is the number of floats of a load, which divides the plane.
#include "views.cuh"

constexpr int THREADS = 512;

struct BatchnormForwardParams {
  const float* gamma;
  const float* beta;
  float* running_mean;
  float* running_var;
  float* statistics;  // mean of each channel, then rstd of each, as used
  float* y;
  int32_t channels, plane;
  int32_t train;      // 1: statistics of the batch, which move the running ones; 0: the running ones
  float slope;        // of the leaky ReLU of y; 1 is none
  float epsilon, momentum;
  int32_t view_count;
  int32_t first[MAX_VIEWS + 1];
  const float* views[MAX_VIEWS];
};
SMASH_PARAMS(BatchnormForwardParams, gamma, beta, running_mean, running_var, statistics, y, channels, plane, train,
             slope, epsilon, momentum, view_count, first, views)

struct BatchnormBackwardParams {
  const float* gamma;
  const float* beta;
  const float* statistics;
  const float* gy;
  float* ggamma;  // added to, as is gbeta; null: not wanted
  float* gbeta;
  int32_t channels, plane;
  int32_t train;
  float slope;
  int32_t view_count;
  int32_t first[MAX_VIEWS + 1];
  uint32_t add[MAX_VIEWS / 32];
  const float* views[MAX_VIEWS];
  float* targets[MAX_VIEWS];
};
SMASH_PARAMS(BatchnormBackwardParams, gamma, beta, statistics, gy, ggamma, gbeta, channels, plane, train, slope,
             view_count, first, add, views, targets)

static_assert(sizeof(BatchnormBackwardParams) < 4000, "kernel parameters have 4 KiB");

// Calls visit(i) for the vectors of a row that are this thread's.
template <int V, class Visit>
__device__ __forceinline__ void each_vector(int len, Visit visit) {
  for (int i = threadIdx.x * V; i < len; i += THREADS * V) visit(i);
}

struct Moments {
  float mean;
  float squares;  // sum of the squares of the differences from the mean
};

// In two passes, as E[x^2] - E[x]^2 loses all digits where the mean is large. The second also sums
// the differences from the mean that the first found, which corrects its rounding.
template <int V>
__device__ __forceinline__ Moments moments(const float* x, int len) {
  float sum = 0.f;
  each_vector<V>(len, [&](int i) {
    const Vec<V> v = load<V>(x + i);
    UNROLL for (int j = 0; j < V; j++) sum += v.at[j];
  });
  const float about = block_sum<THREADS>(sum) / float(len);
  float differences = 0.f, squares = 0.f;
  each_vector<V>(len, [&](int i) {
    const Vec<V> v = load<V>(x + i);
    UNROLL for (int j = 0; j < V; j++) {
      const float d = v.at[j] - about;
      differences += d;
      squares += d * d;
    }
  });
  differences = block_sum<THREADS>(differences);
  squares = block_sum<THREADS>(squares);
  const float shift = differences / float(len);
  const float rest = squares - differences * shift;
  return {about + shift, rest < 0.f ? 0.f : rest};  // below zero by rounding alone; a NaN stays one
}

// Before the activation. Forward and backward must agree on its sign, so the rounding is spelled out.
__device__ __forceinline__ float normalised(float x, float mean, float factor, float beta) {
  return fmaf(factor, x - mean, beta);
}

template <int V>
__device__ __forceinline__ void forward(const BatchnormForwardParams& p) {
  const int c = blockIdx.x, view = find_view(p, c);
  const float* x = p.views[view] + offset_in_view(p, view, c);
  float mean = p.running_mean[c], variance = p.running_var[c];
  if (p.train) {
    const Moments batch = moments<V>(x, p.plane);
    if (threadIdx.x == 0) {
      p.running_mean[c] = mean + p.momentum * (batch.mean - mean);
      p.running_var[c] = variance + p.momentum * (batch.squares / float(max(p.plane - 1, 1)) - variance);
    }
    mean = batch.mean;
    variance = batch.squares / float(p.plane);
  }
  const float rstd = 1.f / sqrtf(variance + p.epsilon);
  if (threadIdx.x == 0) {
    p.statistics[c] = mean;
    p.statistics[p.channels + c] = rstd;
  }
  const float factor = p.gamma[c] * rstd, beta = p.beta[c];
  float* y = p.y + size_t(c) * p.plane;
  each_vector<V>(p.plane, [&](int i) {
    Vec<V> v = load<V>(x + i);
    UNROLL for (int j = 0; j < V; j++) {
      const float z = normalised(v.at[j], mean, factor, beta);
      v.at[j] = fmaxf(z, p.slope * z);
    }
    store<V>(y + i, v);
  });
}

// gx (+)= gamma * rstd * (gz - mean(gz) - (x - mean) * rstd^2 * mean(gz * (x - mean))), the means
// in training only; gz is gy before the activation, whose side of zero comes from x again: that
// costs less than reading y.
template <int V>
__device__ __forceinline__ void backward(const BatchnormBackwardParams& p) {
  const int c = blockIdx.x, view = find_view(p, c);
  const float* x = p.views[view] + offset_in_view(p, view, c);
  const float* gy = p.gy + size_t(c) * p.plane;
  const float mean = p.statistics[c], rstd = p.statistics[p.channels + c];
  const float factor = p.gamma[c] * rstd, beta = p.beta[c];
  const auto before_activation = [&](float gy, float x) {
    return normalised(x, mean, factor, beta) > 0.f ? gy : p.slope * gy;
  };

  float sum = 0.f, dot = 0.f;
  each_vector<V>(p.plane, [&](int i) {
    const Vec<V> g = load<V>(gy + i), v = load<V>(x + i);
    UNROLL for (int j = 0; j < V; j++) {
      const float gz = before_activation(g.at[j], v.at[j]);
      sum += gz;
      dot += gz * (v.at[j] - mean);
    }
  });
  sum = block_sum<THREADS>(sum);
  dot = block_sum<THREADS>(dot) * rstd;
  if (threadIdx.x == 0) {
    if (p.ggamma) p.ggamma[c] += dot;
    if (p.gbeta) p.gbeta[c] += sum;
  }

  if (!p.targets[view]) return;
  float* gx = p.targets[view] + offset_in_view(p, view, c);
  const bool add = adds(p, view);
  const float mean_g = p.train ? sum / float(p.plane) : 0.f;
  const float mean_gx = p.train ? dot / float(p.plane) * rstd : 0.f;
  each_vector<V>(p.plane, [&](int i) {
    const Vec<V> g = load<V>(gy + i), v = load<V>(x + i);
    Vec<V> out;
    if (add) out = load<V>(gx + i);
    UNROLL for (int j = 0; j < V; j++) {
      const float gz = before_activation(g.at[j], v.at[j]);
      const float value = factor * (gz - mean_g - (v.at[j] - mean) * mean_gx);
      out.at[j] = add ? out.at[j] + value : value;
    }
    store<V>(gx + i, out);
  });
}

SMASH_KERNEL(512, batchnorm_forward_v1, BatchnormForwardParams) { forward<1>(p); }
SMASH_KERNEL(512, batchnorm_forward_v4, BatchnormForwardParams) { forward<4>(p); }
SMASH_KERNEL(512, batchnorm_backward_v1, BatchnormBackwardParams) { backward<1>(p); }
SMASH_KERNEL(512, batchnorm_backward_v4, BatchnormBackwardParams) { backward<4>(p); }

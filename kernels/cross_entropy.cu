// cross_entropy: mean loss and numbers of errors of a batch of logits [K, N], and the gradient of
// the loss; one thread per image, whose neighbours read the neighbouring columns.
//
// Everything is a difference from the largest logit of the image, never a sum with it: so f32
// keeps its digits whatever the size of the logits.
#include "common.cuh"

struct CrossEntropyForwardParams {
  const float* x;
  const uint16_t* labels;
  float* result;  // loss, top-1 errors, top-5 errors
  int32_t classes, batch;
};
SMASH_PARAMS(CrossEntropyForwardParams, x, labels, result, classes, batch)

struct CrossEntropyBackwardParams {
  const float* x;
  const uint16_t* labels;
  const float* gloss;
  float* gx;
  int32_t classes, batch;
  int32_t add;
};
SMASH_PARAMS(CrossEntropyBackwardParams, x, labels, gloss, gx, classes, batch, add)

// The logits of one image.
struct Column {
  const float* x;
  int classes, batch;
  float most;   // the largest logit
  float total;  // sum of the exponentials of the differences from it

  __device__ __forceinline__ Column(const float* x, int classes, int batch, int n)
      : x(x + n), classes(classes), batch(batch), most(-INFINITY), total(0.f) {
    for (int k = 0; k < classes; k++) most = fmaxf(most, logit(k));
    for (int k = 0; k < classes; k++) total += expf(logit(k) - most);
  }
  __device__ __forceinline__ float logit(int k) const { return x[size_t(k) * batch]; }
  // Classes that do not come after the label's: those with larger logits, equal ones of lower classes, and what
  // cannot be compared, so that NaN is always an error.
  __device__ __forceinline__ int rank(int label) const {
    const float own = logit(label);
    int before = 0;
    for (int k = 0; k < classes; k++) before += !(logit(k) < own || (logit(k) == own && k >= label));
    return before;
  }
};

// One block, so that its sums are the batch's.
SMASH_KERNEL(256, cross_entropy_forward, CrossEntropyForwardParams) {
  float loss = 0.f, errors = 0.f, top5_errors = 0.f;
  for (int n = threadIdx.x; n < p.batch; n += 256) {
    const Column column(p.x, p.classes, p.batch, n);
    const int label = p.labels[n];
    loss += column.most - column.logit(label) + logf(column.total);
    const int rank = column.rank(label);
    errors += rank >= 1 ? 1.f : 0.f;
    top5_errors += rank >= 5 ? 1.f : 0.f;
  }
  loss = block_sum<256>(loss);
  errors = block_sum<256>(errors);
  top5_errors = block_sum<256>(top5_errors);
  if (threadIdx.x == 0) {
    p.result[0] = loss / float(p.batch);
    p.result[1] = errors;
    p.result[2] = top5_errors;
  }
}

// gx[k][n] (+)= gloss / N * (softmax(x[:, n])[k] - [k = label n])
SMASH_KERNEL(64, cross_entropy_backward, CrossEntropyBackwardParams) {
  const int n = blockIdx.x * 64 + threadIdx.x;
  if (n >= p.batch) return;
  const Column column(p.x, p.classes, p.batch, n);
  const int label = p.labels[n];
  const float scale = *p.gloss / float(p.batch);
  for (int k = 0; k < p.classes; k++) {
    const float softmax = expf(column.logit(k) - column.most) / column.total;
    const float g = scale * (softmax - (k == label ? 1.f : 0.f));
    float* gx = p.gx + size_t(k) * p.batch + n;
    *gx = p.add ? *gx + g : g;
  }
}

// What convolutions read and write: planes of H*W*N floats, or of D*H*W*N, and the taps that shift them.
//
// Pixels lie N floats apart, so tap (r, s) is a shift of the whole plane by a multiple of N, and
// whether it stays inside the picture is the same for all N images. A load of V floats, V dividing
// N, therefore never straddles two pixels and is aligned under every tap.
//
// Convolutions know planes by what `Geometry` offers: its pixels, which taps meet something from
// them, and the lines of outputs that a tap meets something from.
#pragma once
#include "views.cuh"

// The extent of planes and the taps of a filter with odd kernel. A pointwise convolution is one
// pixel of `plane` images with one tap.
struct Geometry {
  int height, width, batch;      // H, W, N
  int kernel_h, kernel_w;        // R, S
  int dilation_h, dilation_w;

  __device__ __forceinline__ int plane() const { return height * width * batch; }
  __device__ __forceinline__ int taps() const { return kernel_h * kernel_w; }
  // Rows and columns from the output pixel to the input pixel of a tap.
  __device__ __forceinline__ int down(int tap) const {
    return (tap / kernel_w - kernel_h / 2) * dilation_h;
  }
  __device__ __forceinline__ int right(int tap) const {
    return (tap % kernel_w - kernel_w / 2) * dilation_w;
  }
  // The same in floats.
  __device__ __forceinline__ int shift(int tap) const {
    return (down(tap) * width + right(tap)) * batch;
  }

  struct Pixel {
    int row, column;
  };
  // The pixel of position j of a plane; beyond the plane, one that no tap leads back from.
  __device__ __forceinline__ Pixel pixel(int j) const {
    const int pixel = j / batch;
    return {j < plane() ? pixel / width : INT32_MIN / 2, pixel % width};
  }
  // Does the input of a tap exist there?
  __device__ __forceinline__ bool inside(const Pixel& at, int tap) const {
    return unsigned(at.row + down(tap)) < unsigned(height) &&
           unsigned(at.column + right(tap)) < unsigned(width);
  }

  // The pixels of positions `first` to `last`, to tell which taps they can use at all.
  struct Tile {
    int top, bottom, left, right;
    __device__ __forceinline__ Tile(const Geometry& g, int first, int last) {
      const int first_pixel = first / g.batch, last_pixel = last / g.batch;
      top = first_pixel / g.width;
      bottom = last_pixel / g.width;
      // A tile of several rows is taken to reach from edge to edge.
      left = top == bottom ? first_pixel % g.width : 0;
      right = top == bottom ? last_pixel % g.width : g.width - 1;
    }
    __device__ __forceinline__ bool use(const Geometry& g, int tap) const {
      const int down = g.down(tap), to_right = g.right(tap);
      return bottom + down >= 0 && top + down < g.height && right + to_right >= 0 &&
             left + to_right < g.width;
    }
  };

  // The positions of the output whose input under a tap lies inside the picture: `count` runs of
  // `len` floats, whole rows of the picture but for |shift| pixels.
  struct Lines {
    int count, len, pitch, first;
    __device__ __forceinline__ int at(int run) const { return first + run * pitch; }
  };
  __device__ __forceinline__ Lines lines(int tap) const {
    const int down = this->down(tap), right = this->right(tap), pitch = width * batch;
    const int count = max(height - abs(down), 0), len = max(width - abs(right), 0) * batch;
    const int first = max(-down, 0) * pitch + max(-right, 0) * batch;
    if (len == pitch) return {1, len * count, pitch, first};  // whole rows follow one another
    return {count, len, pitch, first};
  }
};

__device__ __forceinline__ Geometry pixels(int plane) { return {1, 1, plane, 1, 1, 1, 1}; }

// The same for volumes, [D, H, W, N], and filters [T, R, S]: slices are pictures, and a tap is one
// of a slice that leads to the slice `behind`.
struct VolumeGeometry {
  int slices, kernel_d, dilation_d;  // D, T
  Geometry slice;

  __device__ __forceinline__ int plane() const { return slices * slice.plane(); }
  __device__ __forceinline__ int taps() const { return kernel_d * slice.taps(); }
  __device__ __forceinline__ int behind(int tap) const {
    return (tap / slice.taps() - kernel_d / 2) * dilation_d;
  }
  __device__ __forceinline__ int in_slice(int tap) const { return tap % slice.taps(); }
  __device__ __forceinline__ int shift(int tap) const {
    return behind(tap) * slice.plane() + slice.shift(in_slice(tap));
  }

  struct Pixel {
    int slice;
    Geometry::Pixel at;
  };
  __device__ __forceinline__ Pixel pixel(int j) const {
    const int z = j / slice.plane();
    return {z < slices ? z : INT32_MIN / 2, slice.pixel(j - z * slice.plane())};
  }
  __device__ __forceinline__ bool inside(const Pixel& pixel, int tap) const {
    return unsigned(pixel.slice + behind(tap)) < unsigned(slices) &&
           slice.inside(pixel.at, in_slice(tap));
  }

  struct Tile {
    int front, back;
    Geometry::Tile tile;
    __device__ __forceinline__ Tile(const VolumeGeometry& g, int first, int last)
        : front(first / g.slice.plane()),
          back(last / g.slice.plane()),
          // A tile of several slices is taken to cover them.
          tile(g.slice, front == back ? first - front * g.slice.plane() : 0,
               front == back ? last - front * g.slice.plane() : g.slice.plane() - 1) {}
    __device__ __forceinline__ bool use(const VolumeGeometry& g, int tap) const {
      const int behind = g.behind(tap);
      return back + behind >= 0 && front + behind < g.slices && tile.use(g.slice, g.in_slice(tap));
    }
  };

  struct Lines {
    int count, len, front, pitch;
    Geometry::Lines slice;
    __device__ __forceinline__ int at(int run) const {
      return (front + run / slice.count) * pitch + slice.at(run % slice.count);
    }
  };
  __device__ __forceinline__ Lines lines(int tap) const {
    const int behind = this->behind(tap), count = max(slices - abs(behind), 0);
    const Geometry::Lines lines = slice.lines(in_slice(tap));
    return {lines.count * count, lines.len, max(-behind, 0), slice.plane(), lines};
  }
};

// Channels that follow one another in memory.
struct Channels {
  const float* base;
  int plane;
  __device__ __forceinline__ const float* channel(int c) const { return base + size_t(c) * plane; }
  __device__ __forceinline__ float value(float x) const { return x; }
};

// Channels of a list of views, optionally rectified as they are read. Neighbouring requests are
// for neighbouring channels, so the view found last is tried first.
template <class Params>
struct ViewedChannels {
  const Params& p;
  int view = 0;
  __device__ __forceinline__ explicit ViewedChannels(const Params& params) : p(params) {}
  __device__ __forceinline__ const float* channel(int c) {
    if (c < p.first[view] || c >= p.first[view + 1]) view = find_view(p, c);
    return p.views[view] + offset_in_view(p, view, c);
  }
  __device__ __forceinline__ float value(float x) const { return p.relu ? fmaxf(x, 0.f) : x; }
};

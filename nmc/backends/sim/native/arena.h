// Buffers that are reused from layer to layer and from run to run, so that no page is faulted in twice.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <memory>
#include <new>
#include <vector>

#include "kernels.h"

namespace nmc {

// A 64-byte aligned array that is kept: packed weights, whose rows must not straddle cache lines.
class Bytes {
 public:
  explicit Bytes(size_t bytes = 0) {
    if (bytes == 0) return;
    data_.reset(static_cast<uint8_t *>(aligned_alloc(64, (bytes + kSlack + 63) / 64 * 64)));
    if (!data_) throw std::bad_alloc();
  }
  uint8_t *data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(uint8_t *p) const { free(p); }
  };
  std::unique_ptr<uint8_t, Free> data_;
};

// Allocates whole cache lines, so that what one thread counts is never on a line that another one writes.
template <class T>
struct WholeLines {
  using value_type = T;
  WholeLines() = default;
  template <class U>
  WholeLines(const WholeLines<U> &) {}
  T *allocate(size_t count) {
    void *data = aligned_alloc(64, (count * sizeof(T) + 63) / 64 * 64);
    if (!data) throw std::bad_alloc();
    return static_cast<T *>(data);
  }
  void deallocate(T *data, size_t) { free(data); }
  bool operator==(const WholeLines &) const { return true; }
  bool operator!=(const WholeLines &) const { return false; }
};

template <class T>
using OwnLines = std::vector<T, WholeLines<T>>;

class Arena {
 public:
  Arena() = default;
  Arena(const Arena &) = delete;
  Arena &operator=(const Arena &) = delete;
  ~Arena() {
    for (const Block &block : blocks_) free(block.data);
  }

  // 64-byte aligned, at least `bytes` + kSlack long, contents undefined. Throws std::bad_alloc.
  void *take(size_t bytes) {
    Block *best = nullptr;
    for (Block &block : blocks_)
      if (!block.taken && block.bytes >= bytes && (!best || block.bytes < best->bytes)) best = &block;
    if (!best || best->bytes > 2 * bytes + kSmall) best = grow(bytes);
    best->taken = true;
    return best->data;
  }

  template <class T>
  T *take_array(size_t count) {
    return static_cast<T *>(take(count * sizeof(T)));
  }

  void give(const void *data) {
    for (Block &block : blocks_)
      if (block.data == data) block.taken = false;
  }

  void give_all() {
    for (Block &block : blocks_) block.taken = false;
  }

 private:
  struct Block {
    void *data;
    size_t bytes;
    bool taken;
  };

  static constexpr size_t kSmall = 1 << 16;

  // A new block in the place of the largest free one that is too small, so that the arena does not keep both.
  Block *grow(size_t bytes) {
    Block *old = nullptr;
    for (Block &block : blocks_)
      if (!block.taken && block.bytes < bytes && (!old || block.bytes > old->bytes)) old = &block;
    if (old) {
      free(old->data);
      old->data = nullptr;
      old->bytes = 0;
    } else {
      blocks_.push_back({nullptr, 0, false});
      old = &blocks_.back();
    }
    const size_t size = (bytes + kSlack + 63) / 64 * 64;
    old->data = aligned_alloc(64, size);
    if (!old->data) throw std::bad_alloc();
    old->bytes = size - kSlack;
    return old;
  }

  std::vector<Block> blocks_;
};

}  // namespace nmc

// Threads that live as long as one run: none is left behind, whatever ends the run.
#pragma once
#include <stdint.h>

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace nmc {

// Lets the core's other hardware thread and the memory bus rest while a thread waits for a word to change.
inline void rest() {
#if defined(__x86_64__) || defined(_M_X64)
  _mm_pause();
#endif
}

class Team {
 public:
  explicit Team(int threads) : ranges_(new Range[threads < 1 ? 1 : threads]) {
    try {
      for (int worker = 1; worker < threads; worker++) helpers_.emplace_back([this, worker] { serve(worker); });
    } catch (...) {  // fewer threads than asked for give the same result
    }
  }
  Team(const Team &) = delete;
  Team &operator=(const Team &) = delete;
  ~Team() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stop_ = true;
      round_.fetch_add(1);
    }
    wake_.notify_all();
    for (std::thread &helper : helpers_) helper.join();
  }

  int size() const { return static_cast<int>(helpers_.size()) + 1; }

  // work(task, worker) for every task in 0..count-1, in any order; returns when all are done. work must not throw.
  void each(int64_t count, const std::function<void(int64_t, int)> &work) {
    share(count, 1, count, work);
  }

  // work(outer, row, inner, worker) for outer of `outers`, all rows of a map and inner of `inners`. Every worker starts
  // with a band of rows, the same band in every layer: what it reads it mostly wrote itself, which matters where
  // cores share no cache. Then it takes what is left of the others' bands.
  template <class F>
  void each_row(int64_t outers, int height, int64_t inners, const F &work) {
    share(height, outers * inners, outers * height * inners, [&](int64_t task, int worker) {
      int band = 0;
      while (task >= outers * inners * first_of(height, band + 1)) band++;
      const int64_t first = first_of(height, band), rows = first_of(height, band + 1) - first;
      const int64_t within = task - outers * inners * first;
      work(within / inners / rows, static_cast<int>(first + within / inners % rows), within % inners, worker);
    });
  }

 private:
  // Tasks next..end-1 of one worker's share, on a cache line of its own.
  struct alignas(64) Range {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  int64_t first_of(int64_t count, int band) const { return count * band / size(); }

  // Deals `units` of `tasks_per_unit` tasks to the workers, as whole units.
  void share(int64_t units, int64_t tasks_per_unit, int64_t count, const std::function<void(int64_t, int)> &work) {
    if (helpers_.empty() || count <= 1) {
      for (int64_t task = 0; task < count; task++) work(task, 0);
      return;
    }
    work_ = &work;
    for (int worker = 0; worker < size(); worker++) {
      ranges_[worker].next.store(first_of(units, worker) * tasks_per_unit);
      ranges_[worker].end = first_of(units, worker + 1) * tasks_per_unit;
    }
    busy_.store(static_cast<int>(helpers_.size()));
    {
      std::lock_guard<std::mutex> lock(mutex_);
      round_.fetch_add(1);
    }
    wake_.notify_all();
    take_tasks(0);
    for (int spin = 0; busy_.load() > 0; spin++) {
      rest();
      if (spin > kSpins) std::this_thread::yield();
    }
  }

  // About 50 us: what lies between two rounds of one layer is shorter, and waking a sleeper costs as much.
  static constexpr int kSpins = 3000;

  void take_tasks(int worker) {
    for (int k = 0; k < size(); k++) {
      Range &range = ranges_[(worker + k) % size()];
      for (int64_t task; (task = range.next.fetch_add(1)) < range.end;) (*work_)(task, worker);
    }
  }

  void serve(int worker) {
    for (uint64_t seen = 0;;) {
      for (int spin = 0; spin < kSpins && round_.load() == seen; spin++) rest();
      if (round_.load() == seen) {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return round_.load() != seen; });
      }
      seen = round_.load();
      if (stop_) return;
      take_tasks(worker);
      busy_.fetch_sub(1);
    }
  }

  std::unique_ptr<Range[]> ranges_;  // before the helpers, which use them
  std::vector<std::thread> helpers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<bool> stop_{false};
  // On lines of their own: one is waited for while others are written.
  alignas(64) std::atomic<uint64_t> round_{0};
  alignas(64) std::atomic<int> busy_{0};
  alignas(64) const std::function<void(int64_t, int)> *work_ = nullptr;
};

}  // namespace nmc

// Threads that live as long as one run: none is left behind, whatever ends the run.
#pragma once
#include <stdint.h>

#include <atomic>
#include <condition_variable>
#include <functional>
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
  explicit Team(int threads) {
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
    if (helpers_.empty() || count <= 1) {
      for (int64_t task = 0; task < count; task++) work(task, 0);
      return;
    }
    work_ = &work;
    count_ = count;
    next_.store(0);
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

 private:
  // About 50 us: what lies between two rounds of one layer is shorter, and waking a sleeper costs as much.
  static constexpr int kSpins = 3000;

  void take_tasks(int worker) {
    for (int64_t task; (task = next_.fetch_add(1)) < count_;) (*work_)(task, worker);
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

  std::vector<std::thread> helpers_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::atomic<bool> stop_{false};
  // On lines of their own: one is waited for while others are written.
  alignas(64) std::atomic<uint64_t> round_{0};
  alignas(64) std::atomic<int64_t> next_{0};
  alignas(64) std::atomic<int> busy_{0};
  alignas(64) int64_t count_ = 0;
  const std::function<void(int64_t, int)> *work_ = nullptr;
};

}  // namespace nmc

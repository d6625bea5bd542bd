#include "gate.h"

namespace nmc {

namespace {

// Spikes [sum][channel of the block] for all sums 0..largest, as the kernels compute them.
std::vector<uint8_t> spikes_of(const Plan &plan, const Population &population, const Block &block, int largest) {
  const Projection &pool = plan.projections[population.incoming.front()];
  const int cs = population.cs, sums = largest + 1;
  std::vector<uint8_t> source(static_cast<size_t>(sums) * cs + kSlack), out(static_cast<size_t>(sums) * block.width + kSlack);
  std::vector<int32_t> column(sums), image(sums, 0), acc(static_cast<size_t>(sums) * block.width);
  for (int sum = 0; sum < sums; sum++) {
    column[sum] = sum;
    std::fill_n(source.begin() + static_cast<size_t>(sum) * cs, cs, static_cast<uint8_t>(sum));
  }
  const Geometry one_to_one = {1, sums, cs, 1, 1, 1, 1, 0, 0, 1, 1};
  const WindowArgs window = {one_to_one, {source.data(), 0, 0}, false, largest, pool.channel_weights.data() + block.first,
                             0, block.first, pool.shift};
  plan.kernels->pool(window, {sums, 1, block.width, 0, image.data(), column.data(), acc.data(), false});
  int32_t ignored = 0;
  FireArgs f = {};
  f.steps = sums;  // neurons that forget: every sum may be a step of the same neuron
  f.width = block.width;
  f.acc = acc.data();
  f.acc_step = block.width;
  f.bias = population.bias.at(0, block.first);
  f.threshold = population.threshold.at(0, block.first);
  f.drop = population.drop.at(0, block.first);
  f.keep_u = population.keep_u.at(0, block.first);
  f.keep_v = population.keep_v.at(0, block.first);
  f.out = out.data();
  f.out_step = block.width;
  f.spikes = &ignored;
  population.fire(&f, 1);
  return out;
}

}  // namespace

std::vector<uint8_t> firing_limits(const Plan &plan, const Population &population) {
  if (population.incoming.size() != 1 || population.per_pixel) return {};
  const Projection &pool = plan.projections[population.incoming.front()];
  const Population &source = plan.populations[pool.source];
  const int64_t largest = static_cast<int64_t>(source.max_payload) * pool.taps();
  if (pool.op != NMC_POOL || pool.on_host || pool.lag > 0 || source.wide || largest >= kByteSum) return {};
  std::vector<uint8_t> limits(population.cs);
  for (const Block &block : population.blocks) {
    const std::vector<uint8_t> spikes = spikes_of(plan, population, block, static_cast<int>(largest));
    for (int c = 0; c < block.width; c++) {
      int limit = 0;
      while (limit <= largest && !spikes[static_cast<size_t>(limit) * block.width + c]) limit++;
      for (int sum = limit; sum <= largest; sum++)
        if (!spikes[static_cast<size_t>(sum) * block.width + c]) return {};  // a negative weight
      limits[block.first + c] = static_cast<uint8_t>(limit);
    }
  }
  return limits;
}

}  // namespace nmc

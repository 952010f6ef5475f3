// One answer is one message, put before the next element starts: so after a death the pool knows what was answered.
#include <covey/pool/worker.hpp>

namespace covey::detail {
namespace {

class answering final : public task_answer {
 public:
  answering(const queue_core& to, std::uint64_t task) : to_(to), task_(task) {}

  void value(std::size_t index, encoder& bytes) override {
    encoder out;
    encode(out, answer_head{task_, index, true});
    out.raw(bytes.bytes.data(), bytes.bytes.size());
    out.attachments = std::move(bytes.attachments);
    try {
      to_.put(out, std::nullopt, nullptr);
    } catch (const std::length_error&) {
      error(index, std::current_exception());
    }
  }

  void error(std::size_t index, std::exception_ptr e) override {
    encoder out;
    encode(out, answer_head{task_, index, false});
    encode_exception(out, e);
    to_.put(out, std::nullopt, nullptr);
  }

 private:
  const queue_core& to_;
  std::uint64_t task_;
};

}  // namespace

void run_pool_worker(pool_channel tasks, pool_channel answers) {
  queue_core::taken message;
  while (tasks.core.get(message, std::nullopt, nullptr) == queue_core::get_result::got) {
    decoder in{message.bytes};
    const auto head = decode<task_head>(in);
    answering answer(answers.core, head.task);
    reinterpret_cast<task_entry_point>(head.entry)(in, head.first, answer);
  }
}

}  // namespace covey::detail

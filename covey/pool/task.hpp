/// @file
/// Tasks as bytes: what a pool sends to a worker, and the trampolines that run it there.
#pragma once

#include <covey/base/exceptions.hpp>
#include <covey/memory/region.hpp>
#include <covey/process/callable.hpp>
#include <utility>
#include <vector>

namespace covey::detail {

/// Sends the answer for one index back. Implemented by the worker.
class task_answer {
 public:
  virtual void value(std::size_t index, encoder& bytes) = 0;
  virtual void error(std::size_t index, std::exception_ptr e) = 0;

 protected:
  ~task_answer() = default;
};

/// How a worker runs a task: elements before `first` were answered by a worker that died and are skipped.
using task_entry_point = void (*)(decoder& in, std::size_t first, task_answer& answer);

template <class Call>
void answer_with(std::size_t index, task_answer& answer, const Call& call) {
  encoder out;
  try {
    if constexpr (std::is_void_v<decltype(call())>)
      call();
    else
      encode(out, call());
  } catch (...) {
    answer.error(index, std::current_exception());
    return;
  }
  answer.value(index, out);
}

/// One call.
template <class F, class Parameters>
struct run_as_task {
  static_assert(!Parameters::has, "covey: a task takes no std::stop_token");
  static void run(decoder& in, std::size_t, task_answer& answer) {
    encoder out;
    try {
      run_packed<F, false>(
          in, {},
          [&]<class... R>(R&&... result) { (encode(out, std::remove_cvref_t<R>(std::forward<R>(result))), ...); },
          typename Parameters::type{});
    } catch (...) {
      answer.error(0, std::current_exception());
      return;
    }
    answer.value(0, out);
  }
};

/// One call for each of many elements, with the same common arguments.
template <class F, class First, class... Common>
struct run_as_chunk {
  static void run(decoder& in, std::size_t first, task_answer& answer) {
    auto function = decode_function<F>(in);
    std::tuple<typename sent_as<Common>::type...> common{decode<typename sent_as<Common>::type>(in)...};
    const auto count = decode<std::uint64_t>(in);
    for (std::size_t i = 0; i < count; ++i) {
      auto element = decode<typename sent_as<First>::type>(in);
      if (i < first) continue;
      answer_with(i, answer, [&] {
        return [&]<std::size_t... I>(std::index_sequence<I...>) {
          // Each call gets its own copy of the common arguments: a call may move from what it takes by value.
          [[maybe_unused]] auto mine = common;
          return std::invoke(function, as_parameter<First>(element), as_parameter<Common>(std::get<I>(mine))...);
        }(std::index_sequence_for<Common...>{});
      });
    }
  }
};

/// The result type of f(args…), args as the callee's parameters make them.
template <class F, class... P>
auto result_of(parameters<P...>) {
  using result = std::invoke_result_t<typename unvouched<F>::type&, P...>;
  return std::type_identity<std::remove_cvref_t<result>>{};
}

template <class F, class... Args>
using task_result = typename decltype(result_of<F>(parameters_of<F, Args...>()))::type;

/// Packs chunks of a map: [begin, end) elements of `sent` type with `common` encoded once.
template <class F, class First, class... Common>
class chunk_packer {
 public:
  template <class... Args>
  explicit chunk_packer(const F& f, Args&&... common) {
    require_travels<typename sent_as<First>::type>();
    encode_function(head_, f);
    encode_arguments(head_, parameters<Common...>{}, std::forward<Args>(common)...);
    require_early_code(reinterpret_cast<std::uint64_t>(&run_as_chunk<F, First, Common...>::run));
    for (const std::uint64_t id : head_.attachments) held_common_.push_back(region::hold(id));
  }

  template <class Element>
  void add(Element&& element) {
    encode_arguments(body_, parameters<First>{}, std::forward<Element>(element));
    while (held_.size() < body_.attachments.size()) held_.push_back(region::hold(body_.attachments[held_.size()]));
    ++count_;
  }

  [[nodiscard]] std::size_t count() const { return count_; }

  /// The chunk. What its elements name is held until the next one is taken.
  packed_call take() {
    held_of_last_ = std::exchange(held_, {});
    packed_call call;
    call.entry = reinterpret_cast<std::uint64_t>(&run_as_chunk<F, First, Common...>::run);
    encoder all = head_;
    encode(all, std::uint64_t{count_});
    all.raw(body_.bytes.data(), body_.bytes.size());
    all.attachments.insert(all.attachments.end(), body_.attachments.begin(), body_.attachments.end());
    call.bytes = std::move(all.bytes);
    call.attachments = std::move(all.attachments);
    body_ = {};
    count_ = 0;
    return call;
  }

 private:
  encoder head_;
  encoder body_;
  std::vector<region> held_common_;  // of head_.attachments: a stream outlives the call that began it
  std::vector<region> held_;  // of body_.attachments: an element may be a temporary
  std::vector<region> held_of_last_;
  std::size_t count_ = 0;
};

}  // namespace covey::detail

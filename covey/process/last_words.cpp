#include <covey/process/last_words.hpp>

#include <execinfo.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <covey/base/exceptions.hpp>
#include <covey/memory/family.hpp>
#include <cstring>

namespace covey::detail {
namespace {

constexpr int crash_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP, SIGSYS};
constexpr std::size_t crash_stack_bytes = 64 * 1024;

std::uint64_t interrupted_at(const void* context) {
  const auto& machine = static_cast<const ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  return static_cast<std::uint64_t>(machine.gregs[REG_RIP]);
#elif defined(__aarch64__)
  return machine.pc;
#endif
}

// The frames from the interrupted instruction outwards: the handler's own are left out.
void record_frames(last_words& words, const void* context) {
  void* frames[64];
  const int n = ::backtrace(frames, 64);
  const std::uint64_t at = interrupted_at(context);
  int first = 0;
  while (first < n && reinterpret_cast<std::uint64_t>(frames[first]) != at) ++first;
  if (first == n) {
    words.frames[0] = at;
    words.frame_count = 1;
    return;
  }
  for (int i = first; i < n; ++i)
    words.frames[i - first] = reinterpret_cast<std::uint64_t>(frames[i]) - (i > first ? 1 : 0);
  words.frame_count = static_cast<std::uint32_t>(n - first);
}

// A child forked past covey has its parent's place for them.
bool has_last_words() { return family.takes_part; }

void on_crash(int signal, siginfo_t* info, void* context) {
  if (has_last_words()) {
    last_words& words = cells_of(family.slot).last;
    words.number = signal;
    words.address = reinterpret_cast<std::uint64_t>(info->si_addr);
    record_frames(words, context);
    words.kind.store(last_words_kind::signal, std::memory_order_release);  // pairs with read_last_words()
  }
  // SA_RESETHAND has restored the default: a fault happens again on return; a signal that was sent must be sent again.
  if (info->si_code <= 0 && signal != SIGABRT) ::raise(signal);
}

// backtrace() loads its unwinder at the first call, which a handler must not: so call it once, before main.
[[maybe_unused]] const bool unwinder_loaded = [] {
  void* frame[1];
  return ::backtrace(frame, 1) > 0;
}();

}  // namespace

void record_crashes() noexcept {
  void* const stack =
      ::mmap(nullptr, crash_stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
  if (stack != MAP_FAILED) {
    stack_t alternate{};
    alternate.ss_sp = stack;
    alternate.ss_size = crash_stack_bytes;
    ::sigaltstack(&alternate, nullptr);
  }
  struct sigaction action{};
  action.sa_sigaction = on_crash;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | static_cast<int>(SA_RESETHAND) | SA_NODEFER;
  for (const int signal : crash_signals) ::sigaction(signal, &action, nullptr);
}

void record_exception(const std::exception_ptr& e) noexcept {
  if (!has_last_words()) return;
  try {
    encoder out;
    encode_exception(out, e);
    last_words& words = cells_of(family.slot).last;
    const std::size_t n = std::min(out.bytes.size(), sizeof words.text);
    std::memcpy(words.text, out.bytes.data(), n);
    words.text_bytes = static_cast<std::uint32_t>(n);
    words.kind.store(last_words_kind::exception, std::memory_order_release);  // pairs with read_last_words()
  } catch (const std::bad_alloc&) {
    // Without memory for its own words it still ends with code 1.
  }
}

void record_code(int code) noexcept {
  if (!has_last_words()) return;
  last_words& words = cells_of(family.slot).last;
  words.number = code;
  words.kind.store(last_words_kind::code, std::memory_order_release);  // pairs with read_last_words()
}

namespace {

// As waitpid would have said it, for a process that nobody was left to reap.
exit_status own_word(const last_words& words) {
  switch (words.kind.load(std::memory_order_acquire)) {
    case last_words_kind::signal: return exit_status(words.number & 0x7f);
    case last_words_kind::exception: return exit_status(1 << 8);
    case last_words_kind::code: return exit_status((words.number & 0xff) << 8);
    default: return {};
  }
}

}  // namespace

void read_last_words(std::uint32_t slot, exit_status& status) {
  const last_words& words = cells_of(slot).last;
  if (!status.known()) status = own_word(words);
  switch (words.kind.load(std::memory_order_acquire)) {
    case last_words_kind::signal: {
      if (status.signal() == 0) return;
      std::uint64_t frames[64];
      const std::size_t n = std::min<std::size_t>(words.frame_count, 64);
      std::copy_n(words.frames, n, frames);
      status.set_backtrace(symbolize(std::span(frames, n)));
      return;
    }
    case last_words_kind::exception: {
      std::vector<std::byte> bytes(std::min<std::size_t>(words.text_bytes, sizeof words.text));
      std::memcpy(bytes.data(), words.text, bytes.size());
      decoder in{bytes};
      status.set_exception(decode_exception(in));
      return;
    }
    default: return;
  }
}

}  // namespace covey::detail

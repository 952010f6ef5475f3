// A handler rather than a signalfd: a signalfd hears only of signals that are blocked in every thread, and the
// program's other threads are not ours to touch. The handler rings every bell that hangs; a bell is taken down only
// when no handler is inside.
#include <covey/service/stop_signals.hpp>

#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <covey/base/result.hpp>
#include <mutex>
#include <thread>

namespace covey::detail {
namespace {

constexpr std::array<int, 2> signals{SIGTERM, SIGINT};

constinit std::array<std::atomic<alarm_bell*>, 16> bells{};
constinit std::atomic<int> inside{0};  // handlers that run
constinit std::atomic<pid_t> owner{0};

std::mutex install_mutex;
int installed = 0;                                       // guarded by install_mutex
std::array<struct sigaction, signals.size()> before;     // guarded by install_mutex

// A child that somebody forked has our handlers until it execs, and our descriptors: it must not speak for us.
void on_signal(int signal) {
  const int saved = errno;
  inside.fetch_add(1, std::memory_order_seq_cst);  // pairs with the wait in ~stop_signals()
  if (::getpid() == owner.load(std::memory_order_relaxed))
    for (auto& place : bells)
      if (alarm_bell* const bell = place.load(std::memory_order_seq_cst); bell != nullptr) bell->ring(signal);
  inside.fetch_sub(1, std::memory_order_seq_cst);
  errno = saved;
}

void install() {
  struct sigaction ours{};
  ours.sa_handler = on_signal;
  ours.sa_flags = SA_RESTART;
  ::sigemptyset(&ours.sa_mask);
  for (std::size_t i = 0; i < signals.size(); ++i) {
    ::sigaction(signals[i], nullptr, &before[i]);
    if ((before[i].sa_flags & SA_SIGINFO) != 0 || before[i].sa_handler != SIG_IGN)
      ::sigaction(signals[i], &ours, nullptr);
  }
}

void restore() {
  for (std::size_t i = 0; i < signals.size(); ++i) ::sigaction(signals[i], &before[i], nullptr);
}

}  // namespace

alarm_bell::alarm_bell() : fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!fd_) throw std::system_error(errno, std::system_category(), "eventfd");
}

void alarm_bell::ring(int cause) noexcept {
  int none = not_asked;
  cause_.compare_exchange_strong(none, cause, std::memory_order_release, std::memory_order_relaxed);
  wake();
}

void alarm_bell::wake() noexcept {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto n = ::write(fd_.get(), &one, sizeof one);  // full means that it rings already
}

void alarm_bell::answer() noexcept {
  std::uint64_t rings = 0;
  [[maybe_unused]] const auto n = ::read(fd_.get(), &rings, sizeof rings);
}

stop_signals::stop_signals(alarm_bell& bell) {
  const std::scoped_lock lock(install_mutex);
  if (owner.exchange(::getpid()) != ::getpid()) {  // the first here; after a fork the parent's bells are not ours
    installed = 0;
    for (auto& place : bells) place = nullptr;
  }
  const auto free = std::find_if(bells.begin(), bells.end(), [](const auto& place) { return place.load() == nullptr; });
  if (free == bells.end())
    throw std::system_error(EAGAIN, std::system_category(), "covey: more than 16 supervisors run in one process");
  place_ = &*free;
  place_->store(&bell, std::memory_order_seq_cst);
  if (installed++ == 0) install();
}

stop_signals::~stop_signals() {
  {
    const std::scoped_lock lock(install_mutex);
    if (--installed == 0) restore();
  }
  place_->store(nullptr, std::memory_order_seq_cst);
  while (inside.load(std::memory_order_seq_cst) != 0) std::this_thread::yield();
}

}  // namespace covey::detail

/// @file
/// RLIMIT_FSIZE counts for memory files too, and the kernel answers with a signal that ends the program.
#pragma once

#include <signal.h>
#include <sys/resource.h>
#include <time.h>

namespace covey::detail {

/// While it lives, what goes beyond RLIMIT_FSIZE on this thread is only an error (EFBIG).
///
/// Safety: one thread; signal dispositions are left alone.
class without_sigxfsz {
 public:
  without_sigxfsz() noexcept {
    ::sigemptyset(&signal_);
    ::sigaddset(&signal_, SIGXFSZ);
    ::pthread_sigmask(SIG_BLOCK, &signal_, &before_);
  }
  without_sigxfsz(const without_sigxfsz&) = delete;
  without_sigxfsz& operator=(const without_sigxfsz&) = delete;
  ~without_sigxfsz() {
    if (::sigismember(&before_, SIGXFSZ) == 1) return;  // the program's own affair
    const timespec now{};
    while (::sigtimedwait(&signal_, nullptr, &now) > 0) {
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }

 private:
  sigset_t signal_{};
  sigset_t before_{};
};

/// While it lives, RLIMIT_FSIZE is as high as this process may set it. For all threads of the process.
class file_limit_raised {
 public:
  file_limit_raised() noexcept {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    rlimit most = before_;
    most.rlim_cur = most.rlim_max;
    ::setrlimit(RLIMIT_FSIZE, &most);
  }
  file_limit_raised(const file_limit_raised&) = delete;
  file_limit_raised& operator=(const file_limit_raised&) = delete;
  ~file_limit_raised() { ::setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_{};
};

}  // namespace covey::detail

// start_worker() runs in the starter; run_worker() is the first code of a fresh worker, called by the keeper's fork.
#include <covey/process/start.hpp>

#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <covey/base/exceptions.hpp>
#include <covey/ipc/queue_core.hpp>
#include <covey/memory/file_limit.hpp>
#include <covey/memory/messages.hpp>
#include <covey/memory/region.hpp>
#include <covey/process/last_words.hpp>
#include <covey/process/process.hpp>
#include <cstring>
#include <iostream>
#include <thread>

namespace covey::detail {
namespace {

// ---- code that every worker has ------------------------------------------------------------------------------------

struct code_range {
  std::uint64_t begin, end;
};

int add_code(dl_phdr_info* info, std::size_t, void* out) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& p = info->dlpi_phdr[i];
    if (p.p_type == PT_LOAD && (p.p_flags & PF_X) != 0)
      static_cast<std::vector<code_range>*>(out)->push_back(
          {info->dlpi_addr + p.p_vaddr, info->dlpi_addr + p.p_vaddr + p.p_memsz});
  }
  return 0;
}

const std::vector<code_range>& early_code() {
  static const std::vector<code_range> ranges = [] {
    std::vector<code_range> r;
    ::dl_iterate_phdr(add_code, &r);
    return r;
  }();
  return ranges;
}

// ---- the worker ----------------------------------------------------------------------------------------------------

worker_brief read_brief(int payload) {
  struct stat s{};
  if (::fstat(payload, &s) < 0) throw bad_message("covey: a worker was started without a payload");
  std::vector<std::byte> bytes(static_cast<std::size_t>(s.st_size));
  std::size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::pread(payload, bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    if (n <= 0 && errno != EINTR) throw bad_message("covey: a worker's payload cannot be read");
    if (n > 0) done += static_cast<std::size_t>(n);
  }
  decoder in{bytes};
  return decode<worker_brief>(in);
}

// fds: stdin, stdout, stderr, working directory.
void take_surroundings(child_start& start, const worker_brief& brief) {
  for (int i = 0; i < 3; ++i)
    if (start.fds[static_cast<std::size_t>(i)].get() != i) ::dup2(start.fds[static_cast<std::size_t>(i)].get(), i);
  if (::fchdir(start.fds[3].get()) < 0) ::chdir("/");
  for (auto& fd : start.fds)
    if (fd.get() <= STDERR_FILENO) (void)fd.release();
  start.fds.clear();
  ::umask(brief.umask);
  ::clearenv();
  for (const std::string& entry : brief.environment) {
    const auto equals = entry.find('=');
    if (equals != std::string::npos) ::setenv(entry.substr(0, equals).c_str(), entry.c_str() + equals + 1, 1);
  }
}

void run_worker(child_start& start) {
  try {
    worker_brief brief = read_brief(start.payload.get());
    start.payload.reset();
    take_surroundings(start, brief);
    live_as_worker(brief.name, brief.takes_token, [&](std::stop_token token) {
      decoder in{brief.call, edge_from_arguments | this_process_id()};
      return reinterpret_cast<process_entry_point>(brief.entry)(in, std::move(token));
    });
  } catch (...) {
    record_exception(std::current_exception());
    ::_exit(1);
  }
}

[[maybe_unused]] const bool worker_is_set = [] {
  child_main = run_worker;
  (void)early_code();
  return true;
}();

// A thread that turns SIGTERM, blocked everywhere else, into a request to stop.
void stop_on_sigterm(std::stop_source source) {
  sigset_t term;
  ::sigemptyset(&term);
  ::sigaddset(&term, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &term, nullptr);
  std::thread([source = std::move(source), term]() mutable {
    int signal = 0;
    while (::sigwait(&term, &signal) == 0) source.request_stop();
  }).detach();
}

// ---- the starter ---------------------------------------------------------------------------------------------------

result<unique_fd> make_payload(const worker_brief& brief) {
  encoder out;
  encode(out, brief);
  unique_fd payload = above_stdio(::memfd_create("covey:start", MFD_CLOEXEC));
  if (!payload) return from_errno("memfd_create");
  const without_sigxfsz no_signal;
  std::size_t done = 0;
  while (done < out.bytes.size()) {
    const ssize_t n = ::write(payload.get(), out.bytes.data() + done, out.bytes.size() - done);
    if (n < 0 && errno != EINTR) return from_errno("write what a worker shall run");
    if (n > 0) done += static_cast<std::size_t>(n);
  }
  return payload;
}

std::uint32_t current_umask() {
  // umask() can only be read by setting it, which other threads would see; /proc tells without.
  if (FILE* const status = std::fopen("/proc/self/status", "re"); status != nullptr) {
    char line[256];
    unsigned value = 0;
    bool found = false;
    while (!found && std::fgets(line, sizeof line, status) != nullptr)
      found = std::sscanf(line, "Umask: %o", &value) == 1;
    std::fclose(status);
    if (found) return value;
  }
  return 022;
}

std::vector<std::string> current_environment() {
  std::vector<std::string> all;
  for (char** e = environ; e != nullptr && *e != nullptr; ++e) all.emplace_back(*e);
  return all;
}

// A standard descriptor of ours that is open, else /dev/null.
int standard_or(int fd, int fallback) { return ::fcntl(fd, F_GETFD) >= 0 ? fd : fallback; }

}  // namespace

void require_early_code(std::uint64_t address) {
  const auto& ranges = early_code();
  if (std::any_of(ranges.begin(), ranges.end(),
                  [&](const code_range& r) { return address >= r.begin && address < r.end; }))
    return;
  throw std::system_error(
      std::make_error_code(std::errc::operation_not_supported),
      "covey: this function was loaded after the program started, so workers do not have it; link the "
      "library that holds it instead of loading it with dlopen");
}

void put_name(std::span<std::uint64_t, 4> words, const std::string& name) {
  char text[32] = {};
  std::memcpy(text, name.data(), std::min(name.size(), sizeof text - 1));
  std::memcpy(words.data(), text, sizeof text);
}

result<started_worker> start_worker(const packed_call& call, bool takes_token, const std::string& name) {
  family_check();
  worker_brief brief{call.entry, takes_token, current_umask(), name, current_environment(), call.bytes};
  COVEY_TRY(const unique_fd payload, make_payload(brief));
  COVEY_TRY(const int life, life_pipe_for_children());
  const unique_fd nothing = above_stdio(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!nothing) return from_errno("open /dev/null");
  unique_fd here = above_stdio(::open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!here) here = above_stdio(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!here) return from_errno("open the working directory");
  const std::array fds{payload.get(),
                       life,
                       standard_or(STDIN_FILENO, nothing.get()),
                       standard_or(STDOUT_FILENO, nothing.get()),
                       standard_or(STDERR_FILENO, nothing.get()),
                       here.get()};
  std::array<std::uint64_t, 6> values{takes_token ? start_with_sigterm_blocked : 0};
  put_name(std::span(values).subspan<2, 4>(), name);
  COVEY_TRY(keeper_answer answer, ask_keeper(keeper_op::start, values, fds));
  return started_worker{answer.values[0], static_cast<pid_t>(answer.values[1]), std::move(answer.fd)};
}

void live_as_worker(const std::string& name, bool takes_token, const std::function<int(std::stop_token)>& f) noexcept {
  ::prctl(PR_SET_NAME, name.c_str());
  ::signal(SIGINT, SIG_IGN);  // a terminal sends these to all; the starter decides what they mean
  ::signal(SIGQUIT, SIG_IGN);
  record_crashes();
  int code = 1;
  bool returned = false;
  try {
    std::stop_source source;
    if (takes_token) stop_on_sigterm(source);
    code = f(source.get_token());
    returned = true;
    acknowledge_all();  // it ended in order: what it has in hand is done
  } catch (...) {
    record_exception(std::current_exception());
  }
  std::cout.flush();
  std::fflush(nullptr);
  if (returned) record_code(code);
  ::_exit(code);
}

}  // namespace covey::detail

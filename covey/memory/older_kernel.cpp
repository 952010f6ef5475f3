// A seccomp filter, inherited by all processes of the family, that answers as Linux 6.1 does to what came later: system
// calls by their number (from 451 on they are the same for all machines), and options of older calls.
#include <covey/memory/older_kernel.hpp>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <covey/base/check.hpp>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace covey::detail {
namespace {

constexpr std::uint32_t first_newer_call = 451;  // cachestat, 6.5
constexpr std::uint32_t newest_memfd_flag = 0x4;  // MFD_HUGETLB; MFD_NOEXEC_SEAL is of 6.3
constexpr std::uint32_t pidfd_flags = 0x800;  // PIDFD_NONBLOCK; PIDFD_THREAD is of 6.9
constexpr std::uint32_t newest_advice = 25;  // MADV_COLLAPSE; MADV_GUARD_INSTALL is of 6.13
constexpr std::uint32_t newest_socket_option = 75;  // SO_RCVMARK; SO_PASSPIDFD is of 6.5
constexpr std::uint32_t huge_page_bits = 0xfc00'0000;  // of memfd_create: the size of a huge page

using program = std::vector<sock_filter>;

void load(program& p, std::size_t offset) {
  p.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<std::uint32_t>(offset)));
}

constexpr std::size_t argument(int n) { return offsetof(seccomp_data, args) + 8 * static_cast<std::size_t>(n); }

sock_filter answer(int error) {
  return BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error));
}

// Call `number` is answered with `error` when its argument `n` has bits outside of `known`.
void refuse_bits(program& p, long number, int n, std::uint32_t known, int error) {
  load(p, offsetof(seccomp_data, nr));
  p.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 3));
  load(p, argument(n));
  p.push_back(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, ~known, 0, 1));
  p.push_back(answer(error));
}

// Call `number` is answered with `error` when its argument `n` is above `newest`.
void refuse_above(program& p, long number, int n, std::uint32_t newest, int error) {
  load(p, offsetof(seccomp_data, nr));
  p.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 3));
  load(p, argument(n));
  p.push_back(BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, newest, 0, 1));
  p.push_back(answer(error));
}

// The options of sockets themselves; those of protocols have numbers of their own.
void refuse_socket_options(program& p, long number) {
  load(p, offsetof(seccomp_data, nr));
  p.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 5));
  load(p, argument(1));
  p.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOL_SOCKET, 0, 3));
  load(p, argument(2));
  p.push_back(BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, newest_socket_option, 0, 1));
  p.push_back(answer(ENOPROTOOPT));
}

program as_linux_6_1() {
  program p;
  load(p, offsetof(seccomp_data, nr));
  p.push_back(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first_newer_call, 0, 1));
  p.push_back(answer(ENOSYS));
  refuse_bits(p, SYS_memfd_create, 1, 0x3 | newest_memfd_flag | huge_page_bits, EINVAL);
  refuse_bits(p, SYS_pidfd_open, 1, pidfd_flags, EINVAL);
  refuse_above(p, SYS_madvise, 2, newest_advice, EINVAL);
  refuse_socket_options(p, SYS_getsockopt);
  refuse_socket_options(p, SYS_setsockopt);
  p.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  return p;
}

}  // namespace

void make_the_kernel_older() noexcept {
  const char* const wanted = std::getenv("COVEY_LINUX");
  if (wanted == nullptr || *wanted == '\0') return;
  COVEY_CHECK(std::strcmp(wanted, "6.1") == 0, "COVEY_LINUX, when it is set, is 6.1");
  program p = as_linux_6_1();
  const sock_fprog filter{static_cast<unsigned short>(p.size()), p.data()};
  COVEY_CHECK(
      ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) == 0,
      "COVEY_LINUX needs a kernel with seccomp filters");
}

}  // namespace covey::detail

/// @file
/// The keeper: forks workers, reaps them, keeps the tables of regions and references. One thread. Who it is and what
/// its death means: docs/design/identity.md. Every change to the ledger is repeatable: an entry becomes valid by one
/// store.
#pragma once

#include <signal.h>
#include <sys/resource.h>

#include <chrono>
#include <covey/memory/family.hpp>
#include <covey/memory/reference_table.hpp>
#include <unordered_map>

namespace covey::detail {

/// As the program had it before the keeper changed it; workers get it back.
struct program_settings {
  sigset_t signals{};
  rlimit files{};
};

struct connection {
  unique_fd socket;
  process_id who = 0;
  bool progressed = false;  // a request was served that no former keeper can have served
};

// What a process that is watched by pidfd was when the watch began.
struct watched {
  std::uint32_t slot;
  std::uint64_t state;
};

class keeper {
 public:
  keeper(const keeper_descriptors& keys, int guard_pidfd, const program_settings& program);

  /// Serves until the guard dies.
  void serve();

 private:
  struct answer_now {
    std::uint64_t values[4] = {};
    int error = 0;
    unique_fd fd;
    int borrowed_fd = -1;
  };

  [[nodiscard]] bool watch(int fd);
  void reap();
  void on_death(process_entry& e);
  void sweep_all_dead();
  void settle();
  void bury(std::uint32_t slot);
  void look_for_the_lost();
  void look_for_exec(std::uint32_t slot);
  void free_forgotten();
  void take_over();
  void watch_by_pidfd(std::uint32_t slot);
  void watch_by_pidfd(unique_fd pidfd, const watched& whom);
  void watch_the_unwatched();
  void see_end(int pidfd);
  bool accept_one();
  enum class served { one, none, gone };
  served serve_one(connection& c);
  bool handle(connection& c, const keeper_request& r, std::vector<unique_fd>& fds);
  answer_now do_request(connection& c, const keeper_request& r, bool again, bool perhaps, std::vector<unique_fd>& fds);
  answer_now make_region(connection& c, const keeper_request& r, bool again);
  answer_now hold(connection& c, const keeper_request& r);
  answer_now start(connection& c, const keeper_request& r, bool again, std::vector<unique_fd>& fds);
  int fork_worker(std::uint32_t slot, const keeper_request& r, std::vector<unique_fd>& fds);
  answer_now adopt(connection& c, const keeper_request& r, bool again);
  answer_now adopted(connection& c, const keeper_request& r, std::vector<unique_fd>& fds);
  void carry(process_entry& e, const keeper_request& r);
  int attach(connection& c, const keeper_request& r);
  void forget(connection& c, const keeper_request& r);
  std::uint32_t take_slot(process_id parent, std::uint64_t made_by, const char* name);
  std::uint32_t find_started(process_id parent, std::uint64_t made_by);
  [[noreturn]] void run_child(std::uint32_t slot, std::uint64_t generation, std::vector<unique_fd>& fds,
                              const keeper_request& r);
  void close_keeper_fds();

  keeper_descriptors keys_;
  int guard_pidfd_;
  program_settings program_;
  unique_fd epoll_;
  unique_fd signals_;
  bool guard_died_ = false;
  std::uint32_t next_slot_ = 1;
  std::vector<std::uint32_t> ended_;  // to be buried
  bool may_free_ = false;  // an entry was forgotten or died
  std::vector<std::uint64_t> buried_ = std::vector<std::uint64_t>(processes_max);  // by slot: the generation
  std::unordered_map<pid_t, std::uint32_t> slot_of_pid_;  // of our own children
  std::unordered_map<int, connection> connections_;
  std::vector<process_id> lost_;  // their lines ended: at look_at_ it is seen why
  std::chrono::steady_clock::time_point look_at_;
  std::vector<watched> unwatched_;  // there was no descriptor for them
  std::unordered_map<int, watched> watched_;  // by the pidfd of a process that is not our child
  reference_table references_;
};

}  // namespace covey::detail

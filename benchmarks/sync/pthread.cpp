// glibc's own: mutexes between processes, robust or not; std::mutex between threads; semaphores and conditions between
// processes.
#include <benchmarks/sync/locks.hpp>

#include <pthread.h>
#include <semaphore.h>

#include <mutex>
#include <thread>

namespace bench {
namespace {

struct shared_mutex {
  pthread_mutex_t m{};
  explicit shared_mutex(bool robust) {
    pthread_mutexattr_t how;
    pthread_mutexattr_init(&how);
    pthread_mutexattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
    if (robust) pthread_mutexattr_setrobust(&how, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&m, &how);
    pthread_mutexattr_destroy(&how);
  }
};

struct pthread_pshared : lock_defaults {
  static constexpr const char* name = "pthread_pshared";
  shared<shared_mutex> mutex{false};
  void lock() { pthread_mutex_lock(&mutex->m); }
  void unlock() { pthread_mutex_unlock(&mutex->m); }
};

struct pthread_robust : lock_defaults {
  static constexpr const char* name = "pthread_robust";
  shared<shared_mutex> mutex{true};
  void lock() {
    if (pthread_mutex_lock(&mutex->m) != 0) throw std::runtime_error("the owner died");
  }
  void unlock() { pthread_mutex_unlock(&mutex->m); }
  template <class F>
  void lock_of_the_dead(const F& owned) {
    if (pthread_mutex_lock(&mutex->m) != EOWNERDEAD) throw std::runtime_error("a lock was had before its owner died");
    owned();
    pthread_mutex_consistent(&mutex->m);
    pthread_mutex_unlock(&mutex->m);
  }
};

struct std_mutex : lock_defaults {
  static constexpr const char* name = "in_process_std_mutex";
  static constexpr bool between_processes = false;
  std::mutex mutex;
  // With one thread glibc leaves out the locked instructions.
  std_mutex() {
    std::thread([] { stay(); }).detach();
  }
  void lock() { mutex.lock(); }
  void unlock() { mutex.unlock(); }
};

struct posix_semaphore : lock_defaults {
  static constexpr const char* name = "sem_pshared";
  struct semaphores {
    sem_t each[2]{};
    semaphores() {
      for (sem_t& s : each) sem_init(&s, 1, 0);
    }
  };
  shared<semaphores> all;
  void post(int side) { sem_post(&all->each[side]); }
  void wait(int side) {
    while (sem_wait(&all->each[side]) != 0) {
    }
  }
};

struct pthread_condition : lock_defaults {
  static constexpr const char* name = "pthread_cond";
  struct state {
    shared_mutex mutex{false};
    pthread_cond_t changed[2]{};
    bool set[2] = {false, false};
    state() {
      pthread_condattr_t how;
      pthread_condattr_init(&how);
      pthread_condattr_setpshared(&how, PTHREAD_PROCESS_SHARED);
      for (pthread_cond_t& c : changed) pthread_cond_init(&c, &how);
      pthread_condattr_destroy(&how);
    }
  };
  shared<state> all;
  void post(int side) {
    pthread_mutex_lock(&all->mutex.m);
    all->set[side] = true;
    pthread_mutex_unlock(&all->mutex.m);
    pthread_cond_signal(&all->changed[side]);
  }
  void wait(int side) {
    pthread_mutex_lock(&all->mutex.m);
    while (!all->set[side]) pthread_cond_wait(&all->changed[side], &all->mutex.m);
    all->set[side] = false;
    pthread_mutex_unlock(&all->mutex.m);
  }
};

const at_start here([] {
  enroll_lock<pthread_robust>();
  enroll_lock<pthread_pshared>();
  enroll_lock<std_mutex>();
  enroll_signal<posix_semaphore>("semaphore");
  enroll_signal<pthread_condition>("condition");
});

}  // namespace
}  // namespace bench

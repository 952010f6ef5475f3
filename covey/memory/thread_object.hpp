/// @file
/// thread_object: what a thread has of its own, also for the destructors that run after those of its thread_local
/// objects.
#pragma once

#include <covey/memory/family.hpp>

namespace covey::detail {

/// One T for each thread, made when it is first asked for and destroyed when the thread ends. The destructors of what
/// is static, or of thread_local objects that were made earlier, run after that: who asks then gets another, which is
/// destroyed before the thread's name ends; in the main thread never.
///
/// Safety: the thread's own.
template <class T>
class thread_object {
 public:
  /// The own one. Throws std::bad_alloc.
  static T& get() { return object != nullptr ? *object : make(); }
  /// The own one, if there is one.
  static T* if_made() noexcept { return object; }

 private:
  struct ending {
    ~ending() { end(); }
  };
  static T& make() {
    static const bool told = (before_dismissal(end), true);
    (void)told;
    thread_local const ending at_end;
    (void)at_end;
    object = new T;
    return *object;
  }
  // Its destructor may ask for it.
  static void end() noexcept {
    delete object;
    object = nullptr;
  }
  static inline constinit thread_local T* object = nullptr;
};

}  // namespace covey::detail

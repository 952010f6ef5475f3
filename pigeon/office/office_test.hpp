/// @file
/// What the tests of this folder share: a folder that goes away, and people to write about.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <pigeon/office/messages.hpp>
#include <string>

namespace pigeon::office::testing {

/// A new empty folder that is removed, with all in it, at the end. In memory where that can be had: these tests kill
/// processes, not machines, so there is no need to wait for a disk.
class temporary_folder {
 public:
  temporary_folder() {
    const bool in_memory = ::access("/dev/shm", W_OK) == 0;
    std::string pattern = (in_memory ? "/dev/shm/" : ::testing::TempDir()) + "office_XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  temporary_folder(const temporary_folder&) = delete;
  temporary_folder& operator=(const temporary_folder&) = delete;
  ~temporary_folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  /// Its path.
  [[nodiscard]] const std::string& path() const { return path_; }

  /// The path of `name` in it.
  [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// A person called `name` with the key `name@pc`, here.
inline person somebody(const std::string& name) {
  person who;
  who.key = name + "@pc";
  who.name = name;
  who.user = name;
  who.host = "pc";
  who.address = "192.0.2.7";
  who.here = true;
  who.seen = 1'700'000'000'000;
  return who;
}

}  // namespace pigeon::office::testing

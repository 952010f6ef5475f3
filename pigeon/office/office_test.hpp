/// @file
/// What the tests of this folder share: a folder that goes away, and people to write about.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <pigeon/office/messages.hpp>
#include <string>

namespace pigeon::office::testing {

/// A new empty folder that is removed, with all in it, at the end.
class temporary_folder {
 public:
  temporary_folder() {
    std::string pattern = ::testing::TempDir() + "office_XXXXXX";
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

/// @file
/// What a benchmark program can measure: pairs of a case and a subject, each a function.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace bench {

struct settings {
  std::chrono::nanoseconds window = std::chrono::milliseconds(400);  // how long a run measures, after its warm-up
};

/// Names and numbers, for example {"p50", 640}.
using results = std::vector<std::pair<std::string, double>>;

struct entry {
  std::string case_name;
  std::string subject;
  std::function<results(const settings&)> measure;
};

/// All of this program, in no order.
inline std::vector<entry>& entries() {
  static std::vector<entry> all;
  return all;
}

inline void enroll(std::string case_name, std::string subject, std::function<results(const settings&)> measure) {
  entries().push_back({std::move(case_name), std::move(subject), std::move(measure)});
}

/// A subject's file has one of these, so that linking the file is all that adds it.
struct at_start {
  template <class Enroll>
  explicit at_start(Enroll enroll_some) {
    enroll_some();
  }
};

}  // namespace bench

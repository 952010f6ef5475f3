/// @file
/// What every synchronization object is: a handle on a state in a region of its own.
#pragma once

#include <covey/memory/errors.hpp>
#include <covey/memory/park.hpp>
#include <covey/memory/region.hpp>
#include <new>
#include <utility>

namespace covey::detail {

/// Reads the states for inspect(): sync_inspection.cpp.
struct looker;

/// Names the one `State` in a region of its own; a copy names the same.
///
/// Where it lies is remembered, so that an uncontended operation costs no look into the ledger; but not by a handle
/// that lies in shared memory itself, which has to look each time whether its region is mapped here.
///
/// Safety: thread-compatible; `State` looks after itself.
template <class State, region_kind Kind>
class handle_on {
 public:
  /// Makes a state. Throws std::system_error if no shared memory can be had.
  template <class... Args>
  explicit handle_on(std::in_place_t, const Args&... args)
      : region_(region_request{.bytes = sizeof(State), .kind = Kind}) {
    new (region_.data()) State(args...);
    found_ = find();
  }

  handle_on(const handle_on& other) : region_(other.region_), found_(find()) {}
  // Not noexcept: one of the two may lie in shared memory, where it takes a reference, or was written over.
  handle_on(handle_on&& other) : region_(std::move(other.region_)), found_(find()) { other.found_ = nullptr; }
  handle_on& operator=(const handle_on& other) {  // NOLINT(bugprone-unhandled-self-assignment): regions handle it
    region_ = other.region_;
    found_ = find();
    return *this;
  }
  handle_on& operator=(handle_on&& other) {
    region_ = std::move(other.region_);
    found_ = find();
    if (this != &other) other.found_ = nullptr;
    return *this;
  }
  ~handle_on() = default;

  State& operator*() const { return found_ != nullptr ? *found_ : in_region(); }
  State* operator->() const { return &**this; }

  /// The object's number among those that live, as errors show it; from 1.
  [[nodiscard]] std::uint32_t number() const noexcept { return static_cast<std::uint32_t>(region_.id()) + 1; }

  bool operator==(const handle_on& other) const noexcept { return region_ == other.region_; }

  void encode(encoder& out) const { region_.encode(out); }
  static handle_on decode(decoder& in) {
    region r = region::decode(in, Kind);
    if (!r) throw bad_message("covey: a message names no object where it must name one");
    return handle_on(std::move(r));
  }

 private:
  explicit handle_on(region r) : region_(std::move(r)), found_(find()) {}

  [[nodiscard]] State& in_region() const {
    std::byte* const there = region_.data();
    if (there == nullptr) throw_moved_from();
    return *std::launder(reinterpret_cast<State*>(there));
  }
  [[nodiscard]] State* find() const { return in_arena(this) || !region_ ? nullptr : &in_region(); }

  region region_;
  State* found_ = nullptr;
};

}  // namespace covey::detail

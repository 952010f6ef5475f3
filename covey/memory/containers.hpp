/// @file
/// The std containers in shared memory: names for them with covey::allocator.
#pragma once

#include <covey/memory/allocator.hpp>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

namespace covey {

/// std::vector with covey::allocator.
template <class T>
using vector = std::vector<T, allocator<T>>;

/// std::string with covey::allocator.
using string = std::basic_string<char, std::char_traits<char>, allocator<char>>;

/// std::map with covey::allocator.
template <class Key, class T, class Compare = std::less<Key>>
using map = std::map<Key, T, Compare, allocator<std::pair<const Key, T>>>;

/// std::unordered_map with covey::allocator.
template <class Key, class T, class Hash = std::hash<Key>, class Equal = std::equal_to<Key>>
using unordered_map = std::unordered_map<Key, T, Hash, Equal, allocator<std::pair<const Key, T>>>;

}  // namespace covey

/// A covey::string hashes as the std::string_view of its text.
template <>
struct std::hash<covey::string> {
  /// Its hash.
  std::size_t operator()(const covey::string& text) const noexcept {
    return std::hash<std::string_view>()(std::string_view(text));
  }
};

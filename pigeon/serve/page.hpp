/// @file
/// The page's files, compiled into the program from pigeon/serve/page by page/embed.cmake.
#pragma once

#include <span>
#include <string_view>

namespace pigeon::serve::detail {

/// One file of the page.
struct page_file {
  std::string_view path;          ///< as requested, e.g. `/app.js`
  std::string_view content_type;  ///< with charset
  std::string_view etag;          ///< quoted, of the content
  std::string_view content;       ///< as in the source folder
};

/// All files; `/` is the page itself.
[[nodiscard]] std::span<const page_file> page_files() noexcept;

/// Changes whenever any file of the page does.
[[nodiscard]] std::string_view page_version() noexcept;

}  // namespace pigeon::serve::detail

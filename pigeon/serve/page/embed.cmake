# cmake -D OUTPUT=page.cpp -D FOLDER=page -P embed.cmake: writes page.cpp with the page's files as C++ string literals.
# Every byte is written as \xNN in pieces of 64, so that no file can break the literal it stands in.

set(files
  "/ index.html text/html"
  "/style.css style.css text/css"
  "/app.js app.js text/javascript"
  "/icon.svg icon.svg image/svg+xml")

set(entries)
set(all)
foreach(line IN LISTS files)
  string(REPLACE " " ";" parts "${line}")
  list(GET parts 0 path)
  list(GET parts 1 name)
  list(GET parts 2 type)
  file(READ ${FOLDER}/${name} bytes HEX)
  file(SHA256 ${FOLDER}/${name} hash)
  string(SUBSTRING ${hash} 0 20 tag)
  string(APPEND all ${tag})
  string(LENGTH "${bytes}" digits)
  math(EXPR size "${digits} / 2")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "\\\\x\\1" literal "${bytes}")
  set(lines)
  string(LENGTH "${literal}" length)
  set(at 0)
  while(at LESS length)
    string(SUBSTRING "${literal}" ${at} 256 piece)
    string(APPEND lines "\n     \"${piece}\"")
    math(EXPR at "${at} + 256")
  endwhile()
  string(APPEND entries "    {\"${path}\", \"${type}; charset=utf-8\", \"\\\"${tag}\\\"\", {${lines},\n     ${size}}},\n")
endforeach()
string(SHA256 version "${all}")
string(SUBSTRING ${version} 0 12 version)

file(WRITE ${OUTPUT} "// Written by page/embed.cmake.
#include <pigeon/serve/page.hpp>

namespace pigeon::serve::detail {

namespace {

constexpr page_file files[] = {
${entries}};

}  // namespace

std::span<const page_file> page_files() noexcept { return files; }

std::string_view page_version() noexcept { return \"${version}\"; }

}  // namespace pigeon::serve::detail
")

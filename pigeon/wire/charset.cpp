#include <pigeon/wire/charset.hpp>
#include <iconv.h>

#include <array>
#include <cerrno>
#include <span>
#include <utility>

namespace pigeon::wire {
namespace {

constexpr std::string_view replacement = "\xef\xbf\xbd";  // U+FFFD

// One character at the beginning of some bytes, or what is wrong there.
struct piece {
  std::size_t size = 0;  // bytes; at least 1
  bool good = false;     // a whole character
  bool cut = false;      // a good beginning, then the bytes ended
};

// The range that the byte after `lead` must be in. Narrower than 80–BF where overlong forms, surrogates or values above
// U+10FFFF would begin.
std::pair<unsigned char, unsigned char> second_byte_range(unsigned char lead) noexcept {
  switch (lead) {
    case 0xe0: return {0xa0, 0xbf};
    case 0xed: return {0x80, 0x9f};
    case 0xf0: return {0x90, 0xbf};
    case 0xf4: return {0x80, 0x8f};
    default: return {0x80, 0xbf};
  }
}

std::size_t size_announced_by(unsigned char lead) noexcept {
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return 2;
  if (lead >= 0xe0 && lead <= 0xef) return 3;
  if (lead >= 0xf0 && lead <= 0xf4) return 4;
  return 0;
}

// The character that `bytes`, which is not empty, begins with.
piece first_piece(std::string_view bytes) noexcept {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[i]); };
  const std::size_t size = size_announced_by(at(0));
  if (size == 0) return {.size = 1};
  auto [low, high] = second_byte_range(at(0));
  for (std::size_t i = 1; i < size; ++i) {
    if (i == bytes.size()) return {.size = i, .cut = true};
    if (at(i) < low || at(i) > high) return {.size = i};
    low = 0x80, high = 0xbf;
  }
  return {.size = size, .good = true};
}

// What a look at some bytes as UTF-8 tells.
struct survey {
  bool good = true;  // up to a character cut off at the end
  bool cut = false;  // the last character is not whole
  std::size_t wide = 0;  // whole characters beyond ASCII
  std::size_t wide_size = 0;  // their bytes
};

survey survey_utf8(std::string_view bytes) noexcept {
  survey seen;
  while (!bytes.empty()) {
    const piece next = first_piece(bytes);
    seen.cut = next.cut;
    if (!next.good && !next.cut) return {.good = false};
    if (next.good && next.size > 1) {
      ++seen.wide;
      seen.wide_size += next.size;
    }
    bytes.remove_prefix(next.size);
  }
  return seen;
}

bool is_ascii(std::string_view bytes) noexcept {
  for (const char c : bytes) {
    if (static_cast<unsigned char>(c) >= 0x80) return false;
  }
  return true;
}

// What iconv calls the encodings in which such a client may write. GBK, which is Windows code page 936, has the euro
// sign at 80 where GB18030 has nothing.
std::span<const char* const> names_to_read(text_encoding encoding) noexcept {
  static constexpr std::array chinese{"GB18030", "GBK"};
  static constexpr std::array japanese{"CP932"};
  static constexpr std::array unicode{"UTF-8"};
  if (encoding == text_encoding::gb18030) return chinese;
  if (encoding == text_encoding::cp932) return japanese;
  return unicode;
}

// And the one that every such client reads: the last, for old clients know no four-byte characters.
const char* name_to_write(text_encoding encoding) noexcept { return names_to_read(encoding).back(); }

// Owns an iconv descriptor. A C library without the code page is no error: then nothing can be converted.
class converter {
 public:
  converter(const char* to, const char* from) noexcept : handle_(::iconv_open(to, from)) {
    if (reinterpret_cast<std::intptr_t>(handle_) == -1) handle_ = nullptr;
  }
  converter(const converter&) = delete;
  converter& operator=(const converter&) = delete;
  ~converter() {
    if (ready()) ::iconv_close(handle_);
  }

  bool ready() const noexcept { return handle_ != nullptr; }

  // Converts as much of `in` as is right and appends it to `out`. Returns 0, EILSEQ at something wrong, or EINVAL at a
  // character cut off; `in` is then what is left.
  int convert(std::string_view& in, std::string& out) {
    if (!ready()) return in.empty() ? 0 : EILSEQ;
    char* from = const_cast<char*>(in.data());  // iconv's signature is older than const; it only reads
    std::size_t left = in.size();
    int why = E2BIG;
    while (why == E2BIG) {
      std::array<char, 4096> room;
      char* to = room.data();
      std::size_t free = room.size();
      why = ::iconv(handle_, &from, &left, &to, &free) == static_cast<std::size_t>(-1) ? errno : 0;
      out.append(room.data(), room.size() - free);
    }
    in = in.substr(in.size() - left);
    return why;
  }

 private:
  iconv_t handle_;
};

enum class tail : bool { whole, may_be_cut };

// Decodes if all of it fits what iconv calls `name`.
std::optional<decoded> try_name(std::string_view bytes, const char* name, text_encoding encoding, tail end) {
  converter to_utf8("UTF-8", name);
  decoded made{.encoding = encoding, .proved = true};
  made.text.reserve(bytes.size() * 3 / 2);
  const int why = to_utf8.convert(bytes, made.text);
  if (why != 0 && (why != EINVAL || end == tail::whole)) return std::nullopt;
  if (why != 0) {
    made.text += replacement;
    made.lossy = true;
  }
  if (!is_utf8(made.text)) return std::nullopt;
  return made;
}

// Decodes if all of it fits a code page.
std::optional<decoded> try_code_page(std::string_view bytes, text_encoding encoding, tail end) {
  for (const auto* name : names_to_read(encoding)) {
    if (auto made = try_name(bytes, name, encoding, end)) return made;
  }
  return std::nullopt;
}

// The code page of the peer, also for a text that was cut, comes before any other for the whole text.
std::optional<decoded> try_code_pages(std::string_view bytes, text_encoding likely) {
  for (const auto end : {tail::whole, tail::may_be_cut}) {
    if (likely == text_encoding::utf8) break;
    if (auto made = try_code_page(bytes, likely, end)) return made;
  }
  for (const auto end : {tail::whole, tail::may_be_cut}) {
    for (const auto encoding : {text_encoding::gb18030, text_encoding::cp932}) {
      if (auto made = try_code_page(bytes, encoding, end)) return made;
    }
  }
  return std::nullopt;
}

// A two-byte character that is UTF-8 is as likely to be one of a code page.
bool proves_nothing(const survey& seen) noexcept { return seen.wide == 1 && seen.wide_size == 2; }

}  // namespace

bool is_utf8(std::string_view bytes) noexcept {
  const survey seen = survey_utf8(bytes);
  return seen.good && !seen.cut;
}

std::string repair_utf8(std::string_view bytes) {
  std::string out;
  out.reserve(bytes.size());
  while (!bytes.empty()) {
    const piece next = first_piece(bytes);
    out += next.good ? bytes.substr(0, next.size) : replacement;
    bytes.remove_prefix(next.size);
  }
  return out;
}

std::string_view clip_utf8(std::string_view utf8, std::size_t size_max) noexcept {
  if (utf8.size() <= size_max) return utf8;
  std::size_t end = size_max;
  while (end > 0 && (static_cast<unsigned char>(utf8[end]) & 0xc0) == 0x80) --end;
  return utf8.substr(0, end);
}

decoded decode(std::string_view bytes, text_encoding declared) {
  if (declared == text_encoding::utf8) {
    const bool good = is_utf8(bytes);
    return {.text = repair_utf8(bytes), .proved = good && !is_ascii(bytes), .lossy = !good};
  }
  if (is_ascii(bytes)) return {.text = std::string(bytes), .encoding = declared};
  if (auto made = try_code_page(bytes, declared, tail::whole)) return *std::move(made);
  decoded made{.encoding = declared, .lossy = true};
  converter to_utf8("UTF-8", names_to_read(declared).front());
  while (to_utf8.ready() && to_utf8.convert(bytes, made.text) != 0) {
    made.text += replacement;
    bytes.remove_prefix(1);
  }
  made.text = repair_utf8(to_utf8.ready() ? std::string_view(made.text) : bytes);
  return made;
}

decoded decode_undeclared(std::string_view bytes, std::optional<text_encoding> preferred) {
  const text_encoding likely = preferred.value_or(text_encoding::utf8);
  if (is_ascii(bytes)) return {.text = std::string(bytes), .encoding = likely};
  const survey seen = survey_utf8(bytes);
  if (seen.good && !seen.cut) {
    if (likely != text_encoding::utf8 && proves_nothing(seen)) {
      if (auto made = try_code_page(bytes, likely, tail::whole)) return *std::move(made);
    }
    return {.text = std::string(bytes), .proved = true};
  }
  if (seen.good && seen.wide >= 2 && likely == text_encoding::utf8) {
    return {.text = repair_utf8(bytes), .proved = true, .lossy = true};
  }
  if (auto made = try_code_pages(bytes, likely)) return *std::move(made);
  return {.text = repair_utf8(bytes), .encoding = likely, .lossy = true};
}

std::string encode(std::string_view utf8, text_encoding encoding) {
  std::string repaired = repair_utf8(utf8);
  if (encoding == text_encoding::utf8 || is_ascii(repaired)) return repaired;
  converter from_utf8(name_to_write(encoding), "UTF-8");
  std::string out;
  out.reserve(repaired.size());
  std::string_view left = repaired;
  while (from_utf8.convert(left, out) != 0) {
    const std::size_t skipped = first_piece(left).size;
    out += skipped == 1 ? left[0] : '?';  // ASCII stays as it is when there is no converter at all
    left.remove_prefix(skipped);
  }
  return out;
}

}  // namespace pigeon::wire

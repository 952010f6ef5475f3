#include <covey/process/backtrace.hpp>

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <covey/base/unique_fd.hpp>
#include <cstdlib>
#include <cstring>
#include <memory>

namespace covey {
namespace {

struct module_at {
  std::uint64_t address;
  std::string path{};
  std::uint64_t base = 0;
  bool found = false;
};

int look_in_module(dl_phdr_info* info, std::size_t, void* out) {
  auto& wanted = *static_cast<module_at*>(out);
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& p = info->dlpi_phdr[i];
    const std::uint64_t begin = info->dlpi_addr + p.p_vaddr;
    if (p.p_type != PT_LOAD || wanted.address < begin || wanted.address >= begin + p.p_memsz) continue;
    wanted.base = info->dlpi_addr;
    wanted.path = info->dlpi_name != nullptr && *info->dlpi_name != '\0' ? info->dlpi_name : "/proc/self/exe";
    wanted.found = true;
    return 1;
  }
  return 0;
}

// A file mapped for reading; every access is checked against its end.
class mapped_file {
 public:
  explicit mapped_file(const std::string& path) {
    const unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    struct stat s{};
    if (!fd || ::fstat(fd.get(), &s) < 0 || s.st_size <= 0) return;
    void* const p = ::mmap(nullptr, static_cast<std::size_t>(s.st_size), PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (p == MAP_FAILED) return;
    data_ = static_cast<const std::byte*>(p);
    size_ = static_cast<std::size_t>(s.st_size);
  }
  mapped_file(const mapped_file&) = delete;
  mapped_file& operator=(const mapped_file&) = delete;
  ~mapped_file() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
  }

  template <class T>
  std::span<const T> at(std::uint64_t offset, std::uint64_t count) const {
    if (offset > size_ || count > (size_ - offset) / sizeof(T)) return {};
    return {reinterpret_cast<const T*>(data_ + offset), count};
  }

 private:
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

std::string demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                                         &std::free);
  return status == 0 && text ? text.get() : name;
}

void find_symbol(const mapped_file& file, const Elf64_Shdr& symbols, const Elf64_Shdr& strings, std::uint64_t where,
                 stack_frame& frame) {
  const auto names = file.at<char>(strings.sh_offset, strings.sh_size);
  for (const Elf64_Sym& s : file.at<Elf64_Sym>(symbols.sh_offset, symbols.sh_size / sizeof(Elf64_Sym))) {
    if (ELF64_ST_TYPE(s.st_info) != STT_FUNC || where < s.st_value || where >= s.st_value + s.st_size) continue;
    if (s.st_name >= names.size() || ::memchr(&names[s.st_name], '\0', names.size() - s.st_name) == nullptr) continue;
    frame.function = demangled(&names[s.st_name]);
    frame.offset = where - s.st_value;
    return;
  }
}

void name_function(const mapped_file& file, std::uint64_t where, stack_frame& frame) {
  const auto header = file.at<Elf64_Ehdr>(0, 1);
  if (header.empty() || std::memcmp(header[0].e_ident, ELFMAG, SELFMAG) != 0) return;
  const auto sections = file.at<Elf64_Shdr>(header[0].e_shoff, header[0].e_shnum);
  for (const Elf64_Word type : {SHT_SYMTAB, SHT_DYNSYM})
    for (const Elf64_Shdr& s : sections)
      if (s.sh_type == type && s.sh_link < sections.size() && frame.function.empty())
        find_symbol(file, s, sections[s.sh_link], where, frame);
}

}  // namespace

backtrace symbolize(std::span<const std::uint64_t> addresses) {
  backtrace frames;
  for (const std::uint64_t address : addresses) {
    stack_frame frame{.address = address};
    module_at module{.address = address};
    ::dl_iterate_phdr(look_in_module, &module);
    if (module.found) {
      name_function(mapped_file(module.path), address - module.base, frame);
      frame.module = std::move(module.path);
    }
    frames.push_back(std::move(frame));
  }
  return frames;
}

std::string to_string(const backtrace& frames) {
  std::string text;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    char place[64];
    std::snprintf(place, sizeof place, "%llx",
                  static_cast<unsigned long long>(frames[i].function.empty() ? frames[i].address : frames[i].offset));
    text += "#" + std::to_string(i) + " " + (frames[i].function.empty() ? "" : frames[i].function + "+") + "0x" + place;
    if (!frames[i].module.empty()) text += " in " + frames[i].module;
    text += '\n';
  }
  return text;
}

}  // namespace covey

// Who runs what: everything here runs in the thread that opens or drops a handle, but for the handlers of fork().
#include <covey/memory/named_segment.hpp>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <covey/memory/memory_left.hpp>
#include <covey/memory/messages.hpp>
#include <covey/memory/offset_ptr.hpp>
#include <cstring>
#include <mutex>
#include <new>
#include <thread>
#include <variant>
#include <vector>

namespace covey::detail {

namespace {

using std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr std::size_t page = 4096;
constexpr std::size_t name_bytes_max = 80;
constexpr int backlog = 1024;

[[noreturn]] void fail(int code, std::string context) {
  throw_exception_from_error(from_errno(code, "covey: named segment " + std::move(context)), BOOST_CURRENT_LOCATION);
}

// ---- the table of ranges: which addresses lie in segments, read without a lock --------------------------------------

constexpr std::size_t ranges_max = 256;
constexpr std::size_t no_range = ranges_max;
// First page in the upper 36 bits, number of pages below: changed by one store. Written under the registry's mutex.
constinit std::array<std::atomic<std::uint64_t>, ranges_max> ranges{};
constinit std::atomic<std::size_t> ranges_used{0};  // none at or beyond
constinit std::array<std::atomic<std::uint32_t>, ranges_max + 1> locks{};  // in use, a range; the last: in no range
static_assert(named_bytes_max / page <= (1ULL << 28));

/// Its place in the table.
std::size_t add_range(const std::byte* base, std::size_t bytes) {
  const auto free = std::ranges::find_if(ranges, [](const auto& r) { return r.load(std::memory_order_relaxed) == 0; });
  if (free == ranges.end()) throw std::bad_alloc();
  const auto i = static_cast<std::size_t>(free - ranges.begin());
  free->store(reinterpret_cast<std::uintptr_t>(base) / page << 28 | bytes / page, std::memory_order_release);
  if (ranges_used.load(std::memory_order_relaxed) <= i) ranges_used.store(i + 1, std::memory_order_release);
  return i;
}

std::size_t find_range(const void* p, std::size_t bytes) noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(p);
  const std::size_t used = ranges_used.load(std::memory_order_acquire);  // pairs with add_range
  for (std::size_t i = 0; i < used; ++i) {
    const std::uint64_t range = ranges[i].load(std::memory_order_acquire);
    const std::uintptr_t begin = (range >> 28) * page, size = (range & 0xfff'ffff) * page;
    if (at - begin < size && bytes <= size - (at - begin)) return i;
  }
  return no_range;
}

// ---- names ----------------------------------------------------------------------------------------------------------

struct address {
  sockaddr_un at{};
  socklen_t bytes = 0;
};

address address_of(const std::string& name, uid_t user) {
  const bool printable = std::ranges::all_of(name, [](char c) { return c > ' ' && c <= '~'; });
  if (name.empty() || name.size() > name_bytes_max || !printable)
    throw std::invalid_argument("covey: a named segment's name has 1 to 80 printable characters and no spaces");
  const std::string path = "covey/" + std::to_string(user) + "/" + name;
  address a;
  a.at.sun_family = AF_UNIX;
  std::memcpy(a.at.sun_path + 1, path.data(), path.size());  // after a zero byte: the abstract namespace
  a.bytes = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + path.size());
  return a;
}

unique_fd make_socket() {
  unique_fd s(above_stdio(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)));
  if (!s) fail(errno, "socket");
  return s;
}

const sockaddr* pointer(const address& a) { return reinterpret_cast<const sockaddr*>(&a.at); }

/// Which numbers of processes and threads this process speaks of; 0 when the system does not tell.
std::uint64_t pid_namespace() noexcept {
  struct stat s{};
  return ::stat("/proc/self/ns/pid", &s) == 0 ? s.st_ino : 0;
}

// ---- the memory -----------------------------------------------------------------------------------------------------

unique_fd make_memory(const std::string& name, std::uint64_t bytes) {
  const std::string quoted = "'" + name + "'";
  rlimit limit{};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur < bytes)
    fail(EFBIG, quoted);  // instead of the signal that ftruncate would raise
  if (const auto enough = expect_memory(bytes); !enough) fail(enough.error().code.value(), quoted);
  unique_fd memory(above_stdio(::memfd_create(("covey:" + name).c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING)));
  if (!memory) fail(errno, quoted + ": memfd_create");
  if (::ftruncate(memory.get(), static_cast<off_t>(bytes)) < 0) fail(errno, quoted + ": ftruncate");
  // All pages now, so that a full machine is an error here and no SIGBUS later.
  if (::fallocate(memory.get(), 0, 0, static_cast<off_t>(bytes)) < 0) fail(errno, quoted + ": fallocate");
  if (::fcntl(memory.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) fail(errno, quoted + ": seal");
  return memory;
}

/// Throws unless `memory` is sealed at that size and reserved, so that it raises no SIGBUS.
void check_memory(const std::string& quoted, int memory, std::uint64_t bytes) {
  constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW;
  struct stat s{};
  const int sealed = ::fcntl(memory, F_GET_SEALS);
  if (::fstat(memory, &s) < 0 || sealed < 0 || (sealed & seals) != seals ||
      static_cast<std::uint64_t>(s.st_size) != bytes || static_cast<std::uint64_t>(s.st_blocks) * 512 < bytes)
    fail(EPROTO, quoted + ": its holder gave out memory that is not sealed and reserved");
}

}  // namespace

bool inside_named(const void* p, std::size_t bytes) noexcept { return find_range(p, bytes) != no_range; }

std::atomic<std::uint32_t>& named_locks_around(const void* p) noexcept { return locks[find_range(p, 1)]; }

void throw_outside_named() {
  throw std::out_of_range("covey: an offset pointer points out of its named segment, or to nothing");
}

// ---- all segments of this process -----------------------------------------------------------------------------------

/// Its mutex is held over every step that could let a fork copy a descriptor of a name unseen.
struct named_registry {
  std::recursive_mutex mutex;  // dropping what could not be opened happens inside
  std::vector<named_segment*> all;  // no owners: a segment leaves before it ends

  static named_registry& get() {
    // Never destroyed: a handle may be a global.
    static named_registry* const r = [] {
      auto* const made = new named_registry;
      ::pthread_atfork([] { get().mutex.lock(); }, [] { get().mutex.unlock(); }, [] { get().forget(); });
      return made;
    }();
    return *r;
  }

  /// Ends what stayed because of a lock that is free by now.
  void sweep() noexcept {
    for (std::size_t i = all.size(); i-- > 0;)
      if (all[i]->lingers_ && locks[all[i]->range_].load(std::memory_order_acquire) == 0) all[i]->end();
  }

  /// In a forked child, which has no doormen: it must not keep a name that it does not answer for.
  void forget() noexcept {
    for (named_segment* s : all) {
      if (s->base_ != nullptr) ranges[s->range_].store(0, std::memory_order_relaxed);
      s->base_ = nullptr;  // map() kept it from being inherited
      s->listener_.reset();
      s->memory_.reset();
      (void)s->doorman_.release();  // its thread did not come along
    }
    all.clear();
    new (&mutex) std::recursive_mutex;  // its owner is a thread number, which the fork changed
  }
};

void named_segment::map(const std::string& quoted) {
  void* const p = ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, memory_.get(), 0);
  if (p == MAP_FAILED) fail(errno, quoted + ": mmap");
  ::madvise(p, bytes_, MADV_DONTFORK);
  base_ = static_cast<std::byte*>(p);
  // Without the first page, where no pointer of the program's leads.
  range_ = add_range(base_ + object_offset, bytes_ - object_offset);
}

void named_segment::show(const std::string& name) noexcept {
  if (!family.takes_part || !half_of_the_notes_are_free()) return;
  try {
    shown_.emplace(note_of_named_segment, name, static_cast<std::int64_t>(bytes_));
  } catch (const std::exception&) {
    // Another thread took the last note, or there is no memory for saying so: it works unseen.
  }
}

/// The last handle has gone.
void named_segment::drop(named_segment* segment) noexcept {
  auto& registry = named_registry::get();
  const std::scoped_lock held(registry.mutex);
  registry.sweep();
  const bool lock_in_use = segment->base_ != nullptr && locks[segment->range_].load(std::memory_order_acquire) != 0;
  // The segment stays, and is answered for, until the lock is free and a handle of any segment comes or goes.
  if (lock_in_use && segment->doorman_ != nullptr)
    segment->lingers_ = true;
  else
    segment->end();
}

void named_segment::end() noexcept {
  std::erase(named_registry::get().all, this);
  doorman_.reset();
  if (shown_) shown_->drop();
  // A maker that failed with a lock held leaves its pages; nobody else has seen them.
  if (base_ != nullptr && locks[range_].load(std::memory_order_acquire) == 0) {
    ranges[range_].store(0, std::memory_order_release);
    ::munmap(base_, bytes_);
  }
  memory_.reset();
  delete this;  // and with it the listener, last
}

void* named_segment::allocate(std::size_t bytes, std::size_t align) const {
  (void)object();
  auto& frontier = reinterpret_cast<named_header*>(base_)->frontier;
  std::uint64_t before = frontier.load(std::memory_order_relaxed);
  for (;;) {
    // What the header says is checked against what this process knows: it may be garbage.
    if (before < object_offset || before > bytes_) throw std::bad_alloc();
    const std::uint64_t from = (before + align - 1) / align * align;
    if (from > bytes_ || bytes > bytes_ - from) throw std::bad_alloc();
    if (frontier.compare_exchange_weak(before, from + bytes, std::memory_order_relaxed)) return base_ + from;
  }
}

// ---- opening --------------------------------------------------------------------------------------------------------

/// One call of named_segment::open.
struct named_opening {
  using segment = std::shared_ptr<named_segment>;
  enum class absence { nobody, no_answer };  // nobody has the name, or who has it did not answer (yet)

  const named_options& options;
  const named_shape& shape;
  const std::string quoted = "'" + options.name + "'";
  const uid_t self = ::geteuid();
  const uid_t user = options.of_user.value_or(self);
  const address where = address_of(options.name, user);
  const std::string shown_name = user == self ? options.name : std::to_string(user) + "/" + options.name;
  const std::uint64_t own_pid_namespace = pid_namespace();
  const steady_clock::time_point deadline = saturated(options.patience);
  std::chrono::milliseconds one_try{100};  // then perhaps another holder answers; doubled each time

  static steady_clock::time_point saturated(std::chrono::nanoseconds patience) {
    const auto now = steady_clock::now();
    return patience > steady_clock::time_point::max() - now ? steady_clock::time_point::max() : now + patience;
  }

  /// A segment, or why there is none yet. Throws when there never will be.
  std::variant<segment, absence> knock();
  void check_owner(int socket) const;
  [[noreturn]] void refuse(const named_answer& answer) const;
  void check_listener(int listener) const;
  segment enter(const named_answer& answer, std::vector<unique_fd>& fds) const;

  /// Null when somebody else has the name.
  segment make(const std::function<void(void*)>& build) const;
};

std::variant<named_opening::segment, named_opening::absence> named_opening::knock() {
  const unique_fd socket = make_socket();
  if (::connect(socket.get(), pointer(where), where.bytes) < 0) {
    if (errno == ECONNREFUSED) return absence::nobody;
    if (errno == EAGAIN || errno == EINTR) return absence::no_answer;  // its backlog is full
    fail(errno, quoted + ": connect");
  }
  check_owner(socket.get());
  const auto hello = format_hello({.wanted = shape, .pid_namespace = own_pid_namespace});
  if (!send_message(socket.get(), hello.data(), hello.size(), {})) return absence::no_answer;

  pollfd readable{.fd = socket.get(), .events = POLLIN, .revents = 0};
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - steady_clock::now());
  const auto patience = std::clamp(left, std::chrono::milliseconds(0), one_try);
  one_try = std::min<std::chrono::milliseconds>(one_try * 2, 10s);
  if (::poll(&readable, 1, static_cast<int>(patience.count())) <= 0) return absence::no_answer;

  std::array<std::byte, named_message_bytes_max + 1> bytes;
  std::vector<unique_fd> fds;
  const std::scoped_lock held(named_registry::get().mutex);  // from here on we may hold the name
  const auto n = receive_message(socket.get(), bytes.data(), bytes.size(), fds, MSG_DONTWAIT);
  if (!n || *n == 0) return absence::no_answer;  // whoever was about to answer is gone
  const auto message = std::span<const std::byte>(bytes).first(*n);
  if (const std::uint32_t version = version_of(message); version != 0 && version != named_version)
    throw segment_mismatch("covey: named segment " + quoted + " is of covey's layout " + std::to_string(version) +
                           ", this program is of layout " + std::to_string(named_version));
  try {
    return enter(parse_answer(message), fds);
  } catch (const bad_message& why) {
    fail(EPROTO, quoted + ": who holds the name does not speak as covey does (" + why.what() + ")");
  }
}

/// Whoever bound the name first has it: only the user whose name it is may.
void named_opening::check_owner(int socket) const {
  ucred peer{};
  socklen_t bytes = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0) fail(errno, quoted + ": SO_PEERCRED");
  if (peer.uid != user)
    fail(EACCES, quoted + " of user " + std::to_string(user) + " is held by user " + std::to_string(peer.uid) +
                     " (process " + std::to_string(peer.pid) + ")");
}

void named_opening::refuse(const named_answer& answer) const {
  switch (answer.verdict) {
    case named_verdict::not_allowed:
      fail(EACCES, quoted + " of user " + std::to_string(user) + " is not shared with user " + std::to_string(self));
    case named_verdict::other_pid_namespace:
      throw segment_mismatch("covey: named segment " + quoted + " belongs to pid namespace " +
                             std::to_string(answer.pid_namespace) + ", this process to " +
                             std::to_string(own_pid_namespace) + ": its locks would confuse their owners");
    default:
      throw segment_mismatch("covey: named segment " + quoted + " holds " + answer.holds.text() +
                             ", this program expects " + shape.text());
  }
}

/// This process is about to answer for the name through `listener`: it must be what it is said to be.
void named_opening::check_listener(int listener) const {
  address bound;
  bound.bytes = sizeof bound.at;
  int listens = 0;
  socklen_t bytes = sizeof listens;
  if (::getsockname(listener, reinterpret_cast<sockaddr*>(&bound.at), &bound.bytes) < 0 || bound.bytes != where.bytes ||
      std::memcmp(&bound.at, &where.at, where.bytes) != 0 ||
      ::getsockopt(listener, SOL_SOCKET, SO_ACCEPTCONN, &listens, &bytes) < 0 || listens == 0)
    fail(EPROTO, quoted + ": its holder gave out another socket than the name's");
}

named_opening::segment named_opening::enter(const named_answer& answer, std::vector<unique_fd>& fds) const {
  if (answer.verdict != named_verdict::welcome || !answer.holds.fits(shape)) refuse(answer);
  const std::uint64_t least = named_segment::object_offset + shape.bytes;
  if (fds.size() != 2 || !fds[0] || !fds[1] || answer.bytes % page != 0 || answer.bytes < least)
    fail(EPROTO, quoted + ": its holder's answer makes no sense");
  auto& all = named_registry::get().all;
  const auto resumed = [](named_segment* s) {
    s->lingers_ = false;
    return segment(s, named_segment::drop);
  };
  for (named_segment* s : all)
    if (s->id_ == answer.id)
      if (auto known = s->lingers_ ? resumed(s) : s->weak_from_this().lock()) return known;

  check_memory(quoted, fds[0].get(), answer.bytes);
  check_listener(fds[1].get());
  segment s(new named_segment, named_segment::drop);
  s->memory_ = std::move(fds[0]);
  s->listener_ = std::move(fds[1]);
  s->bytes_ = answer.bytes;
  s->id_ = answer.id;
  s->map(quoted);
  const auto& header = *reinterpret_cast<const named_header*>(s->base_);
  if (header.magic != named_magic || header.version != named_version || header.id != answer.id)
    fail(EPROTO, quoted + ": its memory does not begin as it should");
  all.push_back(s.get());
  s->doorman_ = std::make_unique<named_doorman>(s->listener_.get(), s->memory_.get(), answer);
  s->show(shown_name);
  return s;
}

named_opening::segment named_opening::make(const std::function<void(void*)>& build) const {
  if (user != self) fail(EPERM, quoted + ": only user " + std::to_string(user) + " can make it");
  segment s(new named_segment, named_segment::drop);
  {
    auto& registry = named_registry::get();
    const std::scoped_lock held(registry.mutex);
    s->listener_ = make_socket();
    if (::bind(s->listener_.get(), pointer(where), where.bytes) < 0) {
      if (errno == EADDRINUSE) return nullptr;
      fail(errno, quoted + ": bind");
    }
    // Who connects from now on waits for the doorman, or sees the connection end when this process does.
    if (::listen(s->listener_.get(), backlog) < 0) fail(errno, quoted + ": listen");
    registry.all.push_back(s.get());
    if (::getrandom(&s->id_, sizeof s->id_, 0) != sizeof s->id_) fail(errno, quoted + ": getrandom");
    const std::uint64_t used = named_segment::object_offset + shape.bytes;
    if (options.extra_bytes > named_bytes_max - used - page) fail(EFBIG, quoted);
    s->bytes_ = (used + options.extra_bytes + page - 1) / page * page;
    s->memory_ = make_memory(options.name, s->bytes_);
    s->map(quoted);
    new (s->base_) named_header{named_magic, named_version, s->id_, used};
  }
  build(s->object());
  const named_answer welcome{
      .with = options.with, .pid_namespace = own_pid_namespace, .id = s->id_, .bytes = s->bytes_, .holds = shape};
  const std::scoped_lock held(named_registry::get().mutex);
  s->doorman_ = std::make_unique<named_doorman>(s->listener_.get(), s->memory_.get(), welcome);
  s->show(shown_name);
  return s;
}

std::shared_ptr<named_segment> named_segment::open(const named_options& options, intent what, const named_shape& shape,
                                                   const std::function<void(void*)>& build) {
  {
    auto& registry = named_registry::get();
    const std::scoped_lock held(registry.mutex);
    registry.sweep();
  }
  named_opening opening{.options = options, .shape = shape};
  for (std::chrono::milliseconds pause = 1ms;; pause = std::min<std::chrono::milliseconds>(pause * 2, 20ms)) {
    auto missing = named_opening::absence::nobody;
    if (what != intent::create) {
      auto found = opening.knock();
      if (const auto* const s = std::get_if<named_opening::segment>(&found)) return *s;
      missing = std::get<named_opening::absence>(found);
    }
    if (missing == named_opening::absence::nobody) {
      if (what == intent::attach) fail(ENOENT, opening.quoted);
      if (auto made = opening.make(build)) return made;
      if (what == intent::create) fail(EEXIST, opening.quoted);
    }
    if (steady_clock::now() >= opening.deadline)
      fail(ETIMEDOUT, opening.quoted + ": nobody who holds it answered: they are stopped, or its maker is not done");
    std::this_thread::sleep_for(pause);
  }
}

}  // namespace covey::detail

// A guarded value has no handles anywhere in it: they would need references that change with each update.
#include <covey/memory/shared_ptr.hpp>
#include <covey/sync/event.hpp>
#include <covey/sync/guarded.hpp>

#include <map>
#include <optional>
#include <string>
#include <vector>

struct tree {
  std::vector<tree> below;
  std::optional<std::string> name;
};
struct counted {
  int n = 0;
  std::map<std::string, std::vector<covey::shared_ptr<int>>> by_name;
};

static_assert(!covey::detail::holds_handle<int>());
static_assert(!covey::detail::holds_handle<tree>());
static_assert(!covey::detail::holds_handle<std::variant<int, std::pair<std::string, long>>>());
static_assert(covey::detail::holds_handle<covey::event>());
static_assert(covey::detail::holds_handle<counted>());
static_assert(covey::detail::holds_handle<std::variant<int, std::optional<covey::event>>>());
static_assert(covey::detail::holds_handle<std::pair<std::string, covey::shared_ptr<int>>>());

void all() {
  covey::guarded<tree> good;
#ifdef WRONG
  // expect: covey: a guarded value cannot hold handles
  covey::guarded<covey::event> wrong;
#endif
}

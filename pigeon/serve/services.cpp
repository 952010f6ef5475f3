#include <pigeon/serve/services.hpp>

#include <covey/base/exceptions.hpp>

namespace pigeon::serve {

cannot_serve::cannot_serve(const std::string& sentence) : std::runtime_error(sentence) {}

std::string control_socket(const std::string& data) { return data + "/control"; }

}  // namespace pigeon::serve

COVEY_EXCEPTION(pigeon::serve::cannot_serve)

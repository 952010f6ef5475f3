# What `cmake --install` puts where; find_package(covey) and pkg-config read what it writes. tools/consumer proves both.

include(CMakePackageConfigHelpers)
get_property(covey_libraries GLOBAL PROPERTY COVEY_LIBRARIES)
# The substitute world is for tests: who wants it names covey::testing.
list(REMOVE_ITEM covey_libraries covey_testing)

# covey::covey is all of covey.
add_library(covey_all INTERFACE)
add_library(covey::covey ALIAS covey_all)
set_target_properties(covey_all PROPERTIES EXPORT_NAME covey)
target_link_libraries(covey_all INTERFACE ${covey_libraries})
install(TARGETS covey_all EXPORT covey-targets)

# ---- find_package(covey) -------------------------------------------------------------------------------------------
set(covey_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/covey)
install(EXPORT covey-targets NAMESPACE covey:: DESTINATION ${covey_package_dir} COMPONENT covey)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/coveyConfig.cmake.in ${PROJECT_BINARY_DIR}/coveyConfig.cmake
  INSTALL_DESTINATION ${covey_package_dir} NO_SET_AND_CHECK_MACRO)
# Before 1.0 a minor version may change everything.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/coveyConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/coveyConfig.cmake ${PROJECT_BINARY_DIR}/coveyConfigVersion.cmake
  DESTINATION ${covey_package_dir} COMPONENT covey)

# ---- pkg-config ----------------------------------------------------------------------------------------------------
# covey.pc says in pkg-config's words what the targets say in cmake's. Dependents stand before what they use, as the
# linker wants it: the folders are added in the order of the arrows, so the reverse of it is right.
function(covey_write_pkg_config)
  set(archives)
  set(options)
  set(outside)
  set(requires)
  foreach(target IN LISTS covey_libraries)
    get_target_property(type ${target} TYPE)
    if(NOT type STREQUAL INTERFACE_LIBRARY)
      list(PREPEND archives -l${target})
    endif()
    # For example -Wl,--wrap=main, without which covey could not start before main.
    get_target_property(own_options ${target} INTERFACE_LINK_OPTIONS)
    if(own_options)
      list(TRANSFORM own_options REPLACE "^LINKER:" "-Wl,")
      list(APPEND options ${own_options})
    endif()
    get_target_property(links ${target} INTERFACE_LINK_LIBRARIES)
    foreach(link IN LISTS links)
      # A static library's private links count for who links it.
      string(REGEX REPLACE "^\\$<LINK_ONLY:(.*)>$" "\\1" link "${link}")
      if(link MATCHES "^covey(::|_)|^Boost::(headers|boost)$|^\\$<BUILD_INTERFACE:|^::@|^links-NOTFOUND$|^$")
        continue()
      elseif(link STREQUAL Threads::Threads)
        list(APPEND outside -pthread)
      elseif(link STREQUAL OpenSSL::SSL OR link STREQUAL OpenSSL::Crypto)
        list(APPEND requires openssl)
      elseif(link MATCHES "^-")
        list(APPEND outside ${link})
      elseif(link MATCHES "^[a-z0-9_]+$")
        list(APPEND outside -l${link})
      else()
        message(FATAL_ERROR "${target} links ${link}, and cmake/install.cmake does not know its name in pkg-config: add it there")
      endif()
    endforeach()
  endforeach()
  list(REMOVE_DUPLICATES options)
  list(REMOVE_DUPLICATES outside)
  list(REMOVE_DUPLICATES requires)
  # A generator expression (one option for GCC, another for clang) would reach the file unread.
  if("${options};${outside}" MATCHES "\\$<|SHELL:")
    message(FATAL_ERROR "covey.pc cannot hold cmake's own notation: ${options};${outside}")
  endif()
  list(JOIN archives " " COVEY_PC_ARCHIVES)
  list(JOIN options " " COVEY_PC_OPTIONS)
  list(JOIN outside " " COVEY_PC_OUTSIDE)
  list(JOIN requires " " COVEY_PC_REQUIRES)
  # Relative, so that the installed tree can be moved.
  file(RELATIVE_PATH COVEY_PC_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  string(REGEX REPLACE "/$" "" COVEY_PC_PREFIX ${COVEY_PC_PREFIX})
  configure_file(${PROJECT_SOURCE_DIR}/cmake/covey.pc.in ${PROJECT_BINARY_DIR}/covey.pc @ONLY)
endfunction()
covey_write_pkg_config()
install(FILES ${PROJECT_BINARY_DIR}/covey.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig COMPONENT covey)

# ---- pigeon --------------------------------------------------------------------------------------------------------
if(TARGET pigeon)
  # Where ./run finds it.
  set_target_properties(pigeon PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/bin)
  install(TARGETS pigeon RUNTIME COMPONENT pigeon)
endif()

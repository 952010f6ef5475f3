# The verbs of this project's build files: covey_library, covey_program, covey_test, covey_fuzz, covey_script_test, covey_must_not_compile.

include(GNUInstallDirs)
find_package(Threads REQUIRED)
find_package(Boost 1.81 REQUIRED)

if(COVEY_TESTS)
  enable_testing()
  find_package(GTest REQUIRED)
endif()

set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(CheckPIESupported)
check_pie_supported()
set(CMAKE_VERIFY_INTERFACE_HEADER_SETS ${COVEY_TESTS})

# What every target of ours is compiled with; not exported.
add_library(covey_flags INTERFACE)
target_compile_options(covey_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
  -Wnon-virtual-dtor -Woverloaded-virtual -Wimplicit-fallthrough $<$<BOOL:${COVEY_WERROR}>:-Werror>
  # GCC 12 at -O2 takes the alternatives of a std::variant for one another and says so; clang and the sanitizers look for the same, soundly.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>
  # GCC 12 at -O3, which is CMake's Release, takes "a" + std::string for a copy that overlaps itself (its bug 105651).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>
  # As clang does anyway: position-independent code may call its own functions directly, and inline them (5 to 10 % of a queue's throughput).
  $<$<CXX_COMPILER_ID:GNU>:-fno-semantic-interposition>
  $<$<CXX_COMPILER_ID:Clang>:-Wthread-safety>)

# covey_library(NAME HEADERS a.hpp… SOURCES a.cpp… LINKS targets… [PRIVATE_LINKS targets…] [PROJECT pigeon])
# Makes PROJECT::NAME (default covey::NAME) from this folder and its umbrella header ../NAME.hpp, installs and exports it.
function(covey_library name)
  cmake_parse_arguments(arg "" "PROJECT" "HEADERS;SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  if(NOT arg_PROJECT)
    set(arg_PROJECT covey)
  endif()
  set(target ${arg_PROJECT}_${name})
  if(arg_SOURCES)
    add_library(${target} STATIC ${arg_SOURCES})
    set(scope PUBLIC)
    target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:covey_flags> ${arg_PRIVATE_LINKS})
  else()
    add_library(${target} INTERFACE)
    set(scope INTERFACE)
  endif()
  add_library(${arg_PROJECT}::${name} ALIAS ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  set(umbrella)
  if(EXISTS ${CMAKE_CURRENT_SOURCE_DIR}/../${name}.hpp)
    set(umbrella ${CMAKE_CURRENT_SOURCE_DIR}/../${name}.hpp)
  endif()
  target_sources(${target} ${scope} FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${arg_HEADERS} ${umbrella})
  target_compile_features(${target} ${scope} cxx_std_20)
  target_link_libraries(${target} ${scope} ${arg_LINKS})
  if(arg_PROJECT STREQUAL covey)
    install(TARGETS ${target} EXPORT covey-targets
      ARCHIVE COMPONENT covey
      FILE_SET HEADERS COMPONENT covey)
    set_property(GLOBAL APPEND PROPERTY COVEY_LIBRARIES ${target})
  endif()
endfunction()

# covey_program(NAME SOURCES a.cpp… LINKS targets…): an executable.
function(covey_program name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${arg_SOURCES})
  target_compile_features(${name} PRIVATE cxx_std_20)
  target_link_libraries(${name} PRIVATE ${arg_LINKS} covey_flags)
endfunction()

# covey_test(FOLDER a_test.cpp… [LINKS targets…] [TIMEOUT seconds] [LONG] [SERIAL] [LABELS …]): one program and one ctest entry a file,
# named FOLDER.a. LONG ones run under ./test --long only; SERIAL ones run alone.
function(covey_test folder)
  if(NOT COVEY_TESTS)
    return()
  endif()
  cmake_parse_arguments(arg "LONG;SERIAL" "TIMEOUT" "LINKS;LABELS" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  foreach(source IN LISTS arg_UNPARSED_ARGUMENTS)
    get_filename_component(stem ${source} NAME_WE)
    string(REGEX REPLACE "_test$" "" part ${stem})
    set(program ${folder}_${stem})
    covey_program(${program} SOURCES ${source} LINKS ${arg_LINKS} GTest::gtest_main GTest::gmock)
    add_test(NAME ${folder}.${part} COMMAND ${program})
    covey_test_properties(${folder}.${part} ${arg_TIMEOUT} "${arg_LONG}" "${arg_SERIAL}" "${arg_LABELS}")
  endforeach()
endfunction()

# covey_script_test(NAME COMMAND … [TIMEOUT seconds] [LONG] [SERIAL]): a script or program as a test; exit code 77 means skipped, with a reason printed.
function(covey_script_test name)
  if(NOT COVEY_TESTS)
    return()
  endif()
  cmake_parse_arguments(arg "LONG;SERIAL" "TIMEOUT" "COMMAND;LABELS" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 60)
  endif()
  add_test(NAME ${name} COMMAND ${arg_COMMAND} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
  covey_test_properties(${name} ${arg_TIMEOUT} "${arg_LONG}" "${arg_SERIAL}" "${arg_LABELS}")
endfunction()

function(covey_test_properties name timeout long serial labels)
  if(long)
    list(APPEND labels long)
  endif()
  if(CMAKE_CXX_FLAGS MATCHES "-fsanitize")  # slow by nature; a hang is still found
    math(EXPR timeout "4 * ${timeout}")
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${timeout} SKIP_RETURN_CODE 77 LABELS "${labels}"
    ENVIRONMENT "COVEY_SOURCE=${PROJECT_SOURCE_DIR};COVEY_BUILD=${PROJECT_BINARY_DIR};TSAN_OPTIONS=suppressions=${PROJECT_SOURCE_DIR}/tools/tsan.supp")
  if(serial)
    set_tests_properties(${name} PROPERTIES RUN_SERIAL ON)
  endif()
endfunction()

# covey_fuzz(FOLDER a_fuzz.cpp… [LINKS targets…]): with COVEY_FUZZ a libFuzzer program that tools/fuzz runs, otherwise one that replays its corpus
# (FOLDER/a_corpus/*) as the test FOLDER.a_fuzz.
function(covey_fuzz folder)
  if(NOT COVEY_TESTS)
    return()
  endif()
  cmake_parse_arguments(arg "" "" "LINKS" ${ARGN})
  foreach(source IN LISTS arg_UNPARSED_ARGUMENTS)
    get_filename_component(stem ${source} NAME_WE)
    string(REGEX REPLACE "_fuzz$" "" part ${stem})
    set(program ${folder}_${stem})
    if(COVEY_FUZZ)
      covey_program(${program} SOURCES ${source} LINKS ${arg_LINKS})
      target_link_options(${program} PRIVATE -fsanitize=fuzzer)
      # What tools/fuzz runs.
      if(NOT TARGET fuzzers)
        add_custom_target(fuzzers)
      endif()
      add_dependencies(fuzzers ${program})
      file(GENERATE OUTPUT ${PROJECT_BINARY_DIR}/fuzzers/${folder}.${stem}
        CONTENT "$<TARGET_FILE:${program}>\n${CMAKE_CURRENT_SOURCE_DIR}/${part}_corpus\n")
    else()
      covey_program(${program} SOURCES ${source} ${PROJECT_SOURCE_DIR}/tools/fuzz_replay.cpp LINKS ${arg_LINKS})
      add_test(NAME ${folder}.${stem} COMMAND ${program} ${CMAKE_CURRENT_SOURCE_DIR}/${part}_corpus)
      covey_test_properties(${folder}.${stem} 60 "" "" "")
    endif()
  endforeach()
endfunction()

# covey_must_not_compile(FOLDER a_wrong.cpp… LINKS targets…): in each file each case below #ifdef WRONG must fail to compile, with the
# sentence of its `// expect: …` line. Without -DWRONG the file must compile, so that they fail for the reason they claim.
function(covey_must_not_compile folder)
  if(NOT COVEY_TESTS)
    return()
  endif()
  cmake_parse_arguments(arg "" "" "LINKS" ${ARGN})
  foreach(source IN LISTS arg_UNPARSED_ARGUMENTS)
    get_filename_component(stem ${source} NAME_WE)
    add_test(NAME ${folder}.${stem} COMMAND ${PROJECT_SOURCE_DIR}/tools/must_not_compile
      ${CMAKE_CXX_COMPILER} ${CMAKE_CURRENT_SOURCE_DIR}/${source} -std=c++20 -fsyntax-only -I${PROJECT_SOURCE_DIR})
    covey_test_properties(${folder}.${stem} 60 "" "" "")
  endforeach()
endfunction()

// gcc before 13 has no std::format, which one private header of MLX uses. fmt has the same function.
#pragma once
#ifdef __cplusplus
#define FMT_HEADER_ONLY
#include <fmt/format.h>
namespace std { using fmt::format; }
#endif

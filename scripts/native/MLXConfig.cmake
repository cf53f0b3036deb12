# For mlx-c, in the place of the wheel's own, which asks for the toolkit that MLX was built with: RIDGEPOINT_MLX is the folder
# with lib/ and include/.
add_library(mlx SHARED IMPORTED)
set_target_properties(mlx PROPERTIES
  IMPORTED_LOCATION "${RIDGEPOINT_MLX}/lib/libmlx.so"
  INTERFACE_INCLUDE_DIRECTORIES "${RIDGEPOINT_MLX}/include")

// What most tests include, precompiled where TUTTI_PRECOMPILE asks for it.
#pragma once
#include <gtest/gtest.h>
#include "cluster/cmake/common.h"

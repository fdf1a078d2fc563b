/* SPDX-License-Identifier: MIT */
/* JSON as it is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "util/json_out.h"

static void test_all(void **state)
{
	char *text = NULL;
	size_t len;
	struct json_out out = {.to = open_memstream(&text, &len)};

	json_out_open(&out, NULL, '{');
	json_out_number(&out, "n", UINT64_MAX);
	json_out_open(&out, "list", '[');
	json_out_open(&out, NULL, '{');
	json_out_close(&out, '}');
	json_out_number(&out, NULL, 1);
	json_out_number(&out, NULL, 2);
	json_out_close(&out, ']');
	json_out_text(&out, "te\"xt", "a\"b\\c\n\x1b\xff");
	json_out_bool(&out, "yes", true);
	json_out_bool(&out, "no", false);
	json_out_close(&out, '}');
	fclose(out.to);
	assert_string_equal(text, "{\"n\":18446744073709551615,\"list\":[{},1,2],"
				  "\"te\\\"xt\":\"a\\\"b\\\\c\\u000a\\u001b?\","
				  "\"yes\":true,\"no\":false}");
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_all)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: MIT */
/* What `minivmm bench` says about a host, which is a folder here. */
#include <stdbool.h>

#include "cmd/bench/lint.h"

#include "tests/unit/fake_root.h"

static const struct lint_finding *find(const struct lint *lint, const char *name)
{
	for (size_t i = 0; i < lint->count; i++)
		if (strcmp(lint->list[i].name, name) == 0)
			return &lint->list[i];
	return NULL;
}

static void expect(const struct lint *lint, const char *name, const char *value, bool advice)
{
	const struct lint_finding *finding = find(lint, name);

	assert_non_null(finding);
	assert_string_equal(finding->value, value);
	assert_int_equal(finding->advice != NULL, advice);
}

static void test_nothing_to_see(void **state)
{
	struct lint lint;

	lint_look(root, &lint);
	assert_null(find(&lint, "KVM"));
	assert_null(find(&lint, "governor"));
	assert_null(find(&lint, "nested"));
	expect(&lint, "vhost-net", "not there", true);
}

static void test_slow_host(void **state)
{
	struct lint lint;

	put("/proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n"
			     "flags\t\t: fpu vme hypervisor lahf_lm\n");
	put("/sys/module/kvm_pvm/x", "");
	put("/sys/module/kvm/parameters/halt_poll_ns", "0\n");
	put("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
	put("/sys/devices/system/cpu/smt/active", "1\n");
	put("/sys/devices/system/cpu/vulnerabilities/meltdown", "Mitigation: PTI\n");
	put("/sys/devices/system/cpu/vulnerabilities/mds", "Not affected\n");
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
	put("/sys/kernel/mm/ksm/run", "1\n");
	put("/proc/loadavg", "1.50 0.10 0.00 1/100 1234\n");
	lint_look(root, &lint);
	expect(&lint, "processor", "Some CPU @ 2 GHz", false);
	expect(&lint, "nested", "this host is a guest itself", true);
	expect(&lint, "KVM", "kvm_pvm", true);
	expect(&lint, "halt polling", "0", true);
	expect(&lint, "governor", "powersave", true);
	expect(&lint, "SMT", "1", true);
	expect(&lint, "mitigations", "meltdown", true);
	expect(&lint, "huge pages", "never", true);
	expect(&lint, "KSM", "1", true);
	expect(&lint, "load", "1.50", true);
}

static void test_good_host(void **state)
{
	struct lint lint;

	put("/proc/cpuinfo", "model name\t: Some CPU\nflags\t\t: fpu vme\n");
	put("/sys/module/kvm_intel/parameters/ept", "Y\n");
	put("/sys/module/kvm/parameters/halt_poll_ns", "200000\n");
	put("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
	put("/sys/devices/system/cpu/smt/active", "0\n");
	put("/sys/devices/system/cpu/vulnerabilities/mds", "Not affected\n");
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never\n");
	put("/dev/vhost-net", "");
	put("/proc/loadavg", "0.02 0.10 0.00 1/100 1234\n");
	lint_look(root, &lint);
	for (size_t i = 0; i < lint.count; i++)
		assert_null(lint.list[i].advice);
	expect(&lint, "KVM", "kvm_intel", false);
	expect(&lint, "EPT", "Y", false);
	expect(&lint, "mitigations", "none", false);
	expect(&lint, "vhost-net", "there", false);
}

/* Files that no kernel has. */
static void test_odd_host(void **state)
{
	static char text[10000];
	struct lint lint;

	memset(text, 'x', sizeof(text) - 1);
	put("/proc/cpuinfo", "model name\nflags:\nmodel name :\n");
	put("/sys/devices/system/cpu/smt/active", "");
	put("/sys/kernel/mm/transparent_hugepage/enabled", "always [");
	put("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", text);
	put("/proc/loadavg", "\n");
	lint_look(root, &lint);
	assert_null(find(&lint, "SMT"));
	assert_non_null(find(&lint, "governor")->advice);
	expect(&lint, "huge pages", "always [", true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_nothing_to_see, root_setup, root_teardown),
		cmocka_unit_test_setup_teardown(test_slow_host, root_setup, root_teardown),
		cmocka_unit_test_setup_teardown(test_good_host, root_setup, root_teardown),
		cmocka_unit_test_setup_teardown(test_odd_host, root_setup, root_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

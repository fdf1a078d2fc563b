/* SPDX-License-Identifier: MIT */
/* /dev/kvm on a host that lacks something: every ioctl is answered here. */
#include "vmm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include "capture.h"

static unsigned long failing;

int ioctl(int fd, unsigned long request, ...)
{
	if (request == failing) {
		errno = ENOMEM;
		return -1;
	}
	if (request == KVM_GET_API_VERSION)
		return KVM_API_VERSION;
	return request != KVM_GET_SUPPORTED_CPUID;
}

/* Of an init that failed nothing is left, which a second finish would free or close again. */
static void failed_init_leaves_nothing(void **state)
{
	static const unsigned long requests[] = {
		KVM_GET_API_VERSION,
		KVM_CHECK_EXTENSION,
		KVM_GET_SUPPORTED_CPUID,
		KVM_GET_VCPU_MMAP_SIZE,
	};
	struct kvm kvm;

	if (access("/dev/kvm", R_OK | W_OK) < 0)
		skip();
	for (unsigned int i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		failing = requests[i];
		capture_start();
		assert_true(kvm_init(&kvm) < 0);
		assert_one_line(capture_end());
		assert_null(kvm.cpuid);
		assert_int_equal(kvm.fd, -1);
	}
	failing = 0;
	assert_int_equal(kvm_init(&kvm), 0);
	assert_non_null(kvm.cpuid);
	kvm_finish(&kvm);
	assert_null(kvm.cpuid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(failed_init_leaves_nothing, capture_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

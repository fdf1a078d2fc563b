/* SPDX-License-Identifier: MIT */
#include "tests/unit/fake_vm.h"

#include "devices/serial.h"

#define BASE 0x3F8
#define IRQ 4

enum { DATA, IER, IIR, FCR = IIR, LCR, MCR, LSR, MSR, SCR };

static struct serial *serial;
static uint8_t sent[64];
static size_t sent_len;
static unsigned int ready_calls;
static bool refill; /* input_ready calls serial_input again */

static void output(void *owner, const uint8_t *data, size_t len)
{
	assert_ptr_equal(owner, &sent);
	assert_true(sent_len + len <= sizeof(sent));
	memcpy(sent + sent_len, data, len);
	sent_len += len;
}

static void input_ready(void *owner)
{
	ready_calls++;
	if (refill)
		serial_input(serial, (const uint8_t *)"r", 1);
}

static const struct serial_ops ops = { .output = output, .input_ready = input_ready };

static int setup(void **state)
{
	fake_reset();
	sent_len = 0;
	ready_calls = 0;
	refill = false;
	return serial_create(&fake_vm, BASE, IRQ, &ops, &sent, &serial);
}

static int teardown(void **state)
{
	serial_destroy(serial);
	return 0;
}

static uint8_t rd(unsigned int reg)
{
	return in(BASE + reg, 1);
}

static void wr(unsigned int reg, uint8_t value)
{
	out(BASE + reg, 1, value);
}

static size_t input(const char *text)
{
	return serial_input(serial, (const uint8_t *)text, strlen(text));
}

static void sends_at_once(void **state)
{
	for (const char *c = "hello"; *c; c++) {
		assert_int_equal(rd(LSR), 0x60);
		wr(DATA, *c);
	}
	assert_int_equal(sent_len, 5);
	assert_memory_equal(sent, "hello", 5);
	assert_int_equal(fake_line_changes, 0);
}

static void divisor_hides_behind_dlab(void **state)
{
	wr(IER, 0x05);
	wr(LCR, 0x83);
	wr(DATA, 0x34);
	wr(IER, 0x12);
	assert_int_equal(rd(DATA), 0x34);
	assert_int_equal(rd(IER), 0x12);
	wr(LCR, 0x03);
	assert_int_equal(rd(IER), 0x05);
	assert_int_equal(rd(LCR), 0x03);
	assert_int_equal(sent_len, 0);
}

/* Registers keep what the hardware has bits for, as Linux's autoconfig checks. */
static void registers_keep_their_bits(void **state)
{
	wr(IER, 0xFF);
	assert_int_equal(rd(IER), 0x0F);
	wr(IER, 0);
	wr(MCR, 0xFF);
	assert_int_equal(rd(MCR), 0x1F);
	wr(SCR, 0x5A);
	assert_int_equal(rd(SCR), 0x5A);
	wr(LSR, 0);
	assert_int_equal(rd(LSR), 0x60);
	wr(MSR, 0);
	wr(MCR, 0);
	rd(MSR);
	assert_int_equal(rd(MSR), 0xB0);
}

/* The probe of Linux's 8250 driver, in its order: it must end at a 16550A. */
static void looks_like_16550a(void **state)
{
	uint8_t mcr;

	wr(IER, 0);
	assert_int_equal(rd(IER), 0);
	wr(IER, 0x0F);
	assert_int_equal(rd(IER), 0x0F);
	wr(IER, 0);
	wr(MCR, 0x10 | 0x0A);
	assert_int_equal(rd(MSR) & 0xF0, 0x90);
	wr(MCR, 0);

	wr(LCR, 0xBF);
	wr(FCR, 0);
	wr(LCR, 0);
	wr(FCR, 0x01);
	assert_int_equal(rd(IIR) >> 6, 3);
	/* not a 16650 */
	wr(LCR, 0x80);
	assert_int_not_equal(rd(IIR), 0);
	wr(LCR, 0xBF);
	assert_int_not_equal(rd(IIR), 0);
	/* no second register bank */
	wr(LCR, 0);
	mcr = rd(MCR);
	wr(MCR, mcr ^ 0x10);
	wr(LCR, 0xE0);
	assert_int_equal((rd(IIR) ^ mcr) & 0x10, 0);
	wr(LCR, 0);
	wr(MCR, mcr);
	/* no 64-byte FIFO */
	wr(LCR, 0x80);
	wr(FCR, 0x21);
	assert_int_equal(rd(IIR) >> 5, 6);
	wr(LCR, 0);
	/* no XScale UART unit enable */
	wr(IER, 0x40);
	assert_int_equal(rd(IER), 0);
}

static void fifo_bits_follow_fcr(void **state)
{
	assert_int_equal(rd(IIR), 0x01);
	wr(FCR, 0x01);
	assert_int_equal(rd(IIR), 0xC1);
	/* without the enable bit the others do not count */
	wr(FCR, 0xC0);
	assert_int_equal(rd(IIR), 0x01);
}

static void thre_interrupt(void **state)
{
	wr(MCR, 0x08);
	wr(IER, 0x02);
	assert_true(fake_lines[IRQ]);
	assert_int_equal(rd(IIR), 0x02);
	assert_false(fake_lines[IRQ]);
	assert_int_equal(rd(IIR), 0x01);
	/* enabled already: not again */
	wr(IER, 0x02);
	assert_false(fake_lines[IRQ]);
	/* re-enabled: again, or Linux takes the chip for a broken one */
	wr(IER, 0x00);
	wr(IER, 0x02);
	assert_int_equal(rd(IIR), 0x02);
	/* sent: empty again */
	wr(DATA, 'x');
	assert_true(fake_lines[IRQ]);
	wr(IER, 0);
	assert_false(fake_lines[IRQ]);
}

static void out2_gates_the_line(void **state)
{
	wr(IER, 0x02);
	assert_int_equal(fake_line_changes, 0);
	wr(MCR, 0x08);
	assert_true(fake_lines[IRQ]);
	wr(MCR, 0x18);
	assert_false(fake_lines[IRQ]);
	wr(MCR, 0x08);
	assert_true(fake_lines[IRQ]);
	wr(MCR, 0x00);
	assert_false(fake_lines[IRQ]);
}

static void receives_into_the_fifo(void **state)
{
	wr(FCR, 0x01);
	assert_int_equal(input("0123456789abcdefXYZ"), 16);
	assert_int_equal(ready_calls, 0);
	for (const char *c = "0123456789abcdef"; *c; c++) {
		assert_int_equal(rd(LSR), 0x61);
		assert_int_equal(rd(DATA), *c);
	}
	assert_int_equal(rd(LSR), 0x60);
	/* told once */
	assert_int_equal(ready_calls, 1);
	assert_int_equal(input("XYZ"), 3);
	assert_int_equal(rd(DATA), 'X');
	assert_int_equal(ready_calls, 1);
}

static void receives_one_byte_without_fifo(void **state)
{
	assert_int_equal(input("ab"), 1);
	assert_int_equal(rd(DATA), 'a');
	assert_int_equal(rd(LSR), 0x60);
	assert_int_equal(ready_calls, 1);
}

static void input_ready_may_refill(void **state)
{
	refill = true;
	assert_int_equal(input("ab"), 1);
	assert_int_equal(rd(DATA), 'a');
	assert_int_equal(rd(DATA), 'r');
	assert_int_equal(ready_calls, 1);
}

static void receive_interrupt_by_trigger(void **state)
{
	wr(MCR, 0x08);
	wr(FCR, 0x81); /* 8 bytes */
	wr(IER, 0x01);
	assert_int_equal(rd(IIR), 0xC1);
	input("1234567");
	assert_true(fake_lines[IRQ]);
	assert_int_equal(rd(IIR), 0xCC);
	input("8");
	assert_int_equal(rd(IIR), 0xC4);
	for (int i = 0; i < 8; i++) {
		assert_true(fake_lines[IRQ]);
		rd(DATA);
	}
	assert_false(fake_lines[IRQ]);
	assert_int_equal(rd(IIR), 0xC1);
}

static void receive_comes_before_thre(void **state)
{
	wr(MCR, 0x08);
	wr(FCR, 0x01);
	wr(IER, 0x03);
	input("x");
	assert_int_equal(rd(IIR), 0xC4);
	assert_int_equal(rd(DATA), 'x');
	/* not lost by reading IIR meanwhile */
	assert_true(fake_lines[IRQ]);
	assert_int_equal(rd(IIR), 0xC2);
	assert_false(fake_lines[IRQ]);
}

static void fcr_empties_the_fifo(void **state)
{
	wr(MCR, 0x08);
	wr(FCR, 0x01);
	wr(IER, 0x01);
	assert_int_equal(input("0123456789abcdefX"), 16);
	wr(FCR, 0x03);
	assert_int_equal(rd(LSR), 0x60);
	assert_false(fake_lines[IRQ]);
	assert_int_equal(ready_calls, 1);
	input("y");
	wr(FCR, 0x00); /* a change of mode empties it too */
	assert_int_equal(rd(LSR), 0x60);
}

static void loopback_joins_lines_and_data(void **state)
{
	wr(FCR, 0x01);
	wr(MCR, 0x10);
	rd(MSR);
	for (unsigned int mcr = 0; mcr < 16; mcr++) {
		uint8_t lines = (mcr & 2 ? 0x10 : 0) | (mcr & 1 ? 0x20 : 0) |
				(mcr & 4 ? 0x40 : 0) | (mcr & 8 ? 0x80 : 0);

		wr(MCR, 0x10 | mcr);
		assert_int_equal(rd(MSR) & 0xF0, lines);
		assert_int_equal(rd(MSR) & 0x0F, 0);
	}
	wr(DATA, 'L');
	assert_int_equal(sent_len, 0);
	assert_int_equal(rd(DATA), 'L');
	/* the wire is cut */
	assert_int_equal(input("w"), 0);
	assert_int_equal(ready_calls, 0);
	wr(MCR, 0x00);
	assert_int_equal(ready_calls, 1);
	assert_int_equal(input("w"), 1);
}

static void loopback_overruns(void **state)
{
	wr(MCR, 0x18);
	wr(IER, 0x04);
	wr(DATA, '1');
	wr(DATA, '2');
	assert_int_equal(rd(IIR), 0x06);
	assert_int_equal(rd(LSR), 0x63);
	assert_int_equal(rd(LSR), 0x61);
	assert_int_equal(rd(IIR), 0x01);
	assert_int_equal(rd(DATA), '1');
}

static void modem_changes_interrupt(void **state)
{
	assert_int_equal(rd(MSR), 0xB0);
	wr(IER, 0x08);
	wr(MCR, 0x14); /* loopback, OUT1: RI up; CTS, DSR, DCD down */
	assert_int_equal(rd(IIR), 0x00);
	assert_int_equal(rd(MSR), 0x4B);
	wr(MCR, 0x10);
	assert_int_equal(rd(MSR), 0x04); /* the end of a ring */
	wr(MCR, 0x08);
	assert_true(fake_lines[IRQ]);
	assert_int_equal(rd(MSR), 0xBB);
	assert_false(fake_lines[IRQ]);
}

static void wide_accesses_are_bytes(void **state)
{
	out(BASE + LCR, 2, 0x0803);
	assert_int_equal(rd(LCR), 0x03);
	assert_int_equal(rd(MCR), 0x08);
	out(BASE, 2, 0x0141);
	assert_int_equal(sent_len, 1);
	assert_int_equal(sent[0], 'A');
	assert_int_equal(rd(IER), 0x01);
	assert_int_equal(in(BASE + LCR, 4), 0xB0600803);
}

static void port_in_use(void **state)
{
	struct serial *other;

	fake_add_fails_at = 1;
	assert_int_equal(serial_create(&fake_vm, BASE, IRQ, &ops, NULL, &other), -EEXIST);
	serial_destroy(NULL);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(sends_at_once),
		TEST(divisor_hides_behind_dlab),
		TEST(registers_keep_their_bits),
		TEST(looks_like_16550a),
		TEST(fifo_bits_follow_fcr),
		TEST(thre_interrupt),
		TEST(out2_gates_the_line),
		TEST(receives_into_the_fifo),
		TEST(receives_one_byte_without_fifo),
		TEST(input_ready_may_refill),
		TEST(receive_interrupt_by_trigger),
		TEST(receive_comes_before_thre),
		TEST(fcr_empties_the_fifo),
		TEST(loopback_joins_lines_and_data),
		TEST(loopback_overruns),
		TEST(modem_changes_interrupt),
		TEST(wide_accesses_are_bytes),
		TEST(port_in_use),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

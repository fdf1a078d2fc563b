/* SPDX-License-Identifier: MIT */
/*
 * A 16550A as the National Semiconductor data sheet (PC16550D) has it, with a transmitter that
 * is always empty: a byte written to THR is gone at once, and the THRE interrupt follows.
 *
 * Interrupts. The line is a function of the state, recomputed after each change:
 *   RLS   an overrun, which only loopback can cause
 *   RDA   receive FIFO at or above its trigger level
 *   CTI   receive FIFO below it, but not empty: the four characters' wait counts as over
 *   THRE  `thre_pending`: set by a write to THR, and when IER enables it; cleared by reading it
 *         from IIR
 *   MSI   modem lines changed, which again only loopback can cause
 * OUT2 gates the line, as the PC's wiring does; loopback holds OUT2 off (section 8.6).
 *
 * The lock guards all registers. Callbacks to the owner run outside it.
 */
#include "devices/serial.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "util/util.h"
#include "vmm/bus.h"
#include "vmm/irq.h"
#include "vmm/vm.h"

enum reg {
	REG_DATA = 0, /* RBR, THR; DLL with DLAB */
	REG_IER = 1,  /* DLM with DLAB */
	REG_IIR = 2,  /* FCR when written */
	REG_LCR = 3,
	REG_MCR = 4,
	REG_LSR = 5,
	REG_MSR = 6,
	REG_SCR = 7,
	REG_COUNT = 8,
};

#define IER_RDI 0x01
#define IER_THRI 0x02
#define IER_RLSI 0x04
#define IER_MSI 0x08

#define IIR_MSI 0x00
#define IIR_NONE 0x01
#define IIR_THRI 0x02
#define IIR_RDA 0x04
#define IIR_RLS 0x06
#define IIR_CTI 0x0C
#define IIR_FIFO 0xC0

#define FCR_ENABLE 0x01
#define FCR_CLEAR_RX 0x02

#define LCR_DLAB 0x80

#define MCR_DTR 0x01
#define MCR_RTS 0x02
#define MCR_OUT1 0x04
#define MCR_OUT2 0x08
#define MCR_LOOP 0x10

#define LSR_DR 0x01
#define LSR_OE 0x02
#define LSR_THRE 0x20
#define LSR_TEMT 0x40

#define MSR_TERI 0x04
#define MSR_CTS 0x10
#define MSR_DSR 0x20
#define MSR_RI 0x40
#define MSR_DCD 0x80
#define MSR_LINES 0xF0
#define MSR_CHANGES 0x0F

#define FIFO_BYTES 16

struct serial {
	struct vm *vm;
	uint16_t base;
	uint32_t irq;
	const struct serial_ops *ops;
	void *owner;
	struct serial_seen seen;

	pthread_mutex_t lock; /* guards the fields below */
	uint8_t ier, fcr, lcr, mcr, msr, scr;
	uint8_t dll, dlm;
	bool overrun, thre_pending, line;
	bool refused; /* serial_input took less than it was given */
	uint8_t fifo[FIFO_BYTES];
	unsigned int head, count;
};

static unsigned int rx_capacity(const struct serial *serial)
{
	return serial->fcr & FCR_ENABLE ? FIFO_BYTES : 1;
}

static unsigned int rx_trigger(const struct serial *serial)
{
	static const uint8_t levels[] = { 1, 4, 8, 14 };

	return serial->fcr & FCR_ENABLE ? levels[serial->fcr >> 6] : 1;
}

static bool rx_put(struct serial *serial, uint8_t byte)
{
	if (serial->count >= rx_capacity(serial))
		return false;
	serial->fifo[(serial->head + serial->count++) % FIFO_BYTES] = byte;
	return true;
}

/* An empty FIFO repeats the last byte, as RBR does. */
static uint8_t rx_get(struct serial *serial)
{
	if (!serial->count)
		return serial->fifo[(serial->head + FIFO_BYTES - 1) % FIFO_BYTES];
	serial->count--;
	return serial->fifo[serial->head++ % FIFO_BYTES];
}

/* The cause of highest priority, as IIR shows it. */
static uint8_t pending_cause(const struct serial *serial)
{
	if (serial->ier & IER_RLSI && serial->overrun)
		return IIR_RLS;
	if (serial->ier & IER_RDI && serial->count)
		return serial->count >= rx_trigger(serial) ? IIR_RDA : IIR_CTI;
	if (serial->ier & IER_THRI && serial->thre_pending)
		return IIR_THRI;
	if (serial->ier & IER_MSI && serial->msr & MSR_CHANGES)
		return IIR_MSI;
	return IIR_NONE;
}

static void update_line(struct serial *serial)
{
	bool gate = (serial->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
	bool line = gate && pending_cause(serial) != IIR_NONE;

	if (line == serial->line)
		return;
	serial->line = line;
	irq_set_line(&serial->vm->irq, serial->irq, line);
}

/* A cable is always plugged in; loopback joins the modem's inputs to our own outputs. */
static uint8_t modem_lines(const struct serial *serial)
{
	uint8_t mcr = serial->mcr;

	if (!(mcr & MCR_LOOP))
		return MSR_CTS | MSR_DSR | MSR_DCD;
	return (mcr & MCR_RTS ? MSR_CTS : 0) | (mcr & MCR_DTR ? MSR_DSR : 0) |
	       (mcr & MCR_OUT1 ? MSR_RI : 0) | (mcr & MCR_OUT2 ? MSR_DCD : 0);
}

static void update_modem(struct serial *serial)
{
	uint8_t lines = modem_lines(serial);
	uint8_t changes = (lines ^ serial->msr) >> 4;

	/* RI counts only where it ends. */
	if (lines & MSR_RI)
		changes &= ~MSR_TERI;
	serial->msr = lines | (serial->msr & MSR_CHANGES) | changes;
}

static uint8_t read_iir(struct serial *serial)
{
	uint8_t cause = pending_cause(serial);

	if (cause == IIR_THRI)
		serial->thre_pending = false;
	return cause | (serial->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t read_lsr(struct serial *serial)
{
	uint8_t lsr = LSR_THRE | LSR_TEMT | (serial->count ? LSR_DR : 0) |
		      (serial->overrun ? LSR_OE : 0);

	serial->overrun = false;
	return lsr;
}

static uint8_t read_msr(struct serial *serial)
{
	uint8_t msr = serial->msr;

	serial->msr &= MSR_LINES;
	return msr;
}

static uint8_t read_reg(struct serial *serial, enum reg reg)
{
	bool dlab = serial->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA:
		return dlab ? serial->dll : rx_get(serial);
	case REG_IER:
		return dlab ? serial->dlm : serial->ier;
	case REG_IIR:
		return read_iir(serial);
	case REG_LCR:
		return serial->lcr;
	case REG_MCR:
		return serial->mcr;
	case REG_LSR:
		return read_lsr(serial);
	case REG_MSR:
		return read_msr(serial);
	case REG_SCR:
		return serial->scr;
	default:
		return 0xFF;
	}
}

/* True: the byte goes out. */
static bool write_thr(struct serial *serial, uint8_t value)
{
	serial->thre_pending = true;
	if (!(serial->mcr & MCR_LOOP))
		return true;
	if (!rx_put(serial, value))
		serial->overrun = true;
	return false;
}

static void write_ier(struct serial *serial, uint8_t value)
{
	if (value & ~serial->ier & IER_THRI)
		serial->thre_pending = true;
	serial->ier = value & 0x0F;
}

static void write_fcr(struct serial *serial, uint8_t value)
{
	bool toggled = (value ^ serial->fcr) & FCR_ENABLE;

	if (toggled || (value & FCR_ENABLE && value & FCR_CLEAR_RX))
		serial->count = 0;
	/* The other bits are only programmed together with the enable bit. */
	serial->fcr = value & FCR_ENABLE ? value : 0;
}

/* True: `value` goes out. */
static bool write_reg(struct serial *serial, enum reg reg, uint8_t value)
{
	bool dlab = serial->lcr & LCR_DLAB;

	switch (reg) {
	case REG_DATA:
		if (!dlab)
			return write_thr(serial, value);
		serial->dll = value;
		break;
	case REG_IER:
		if (dlab)
			serial->dlm = value;
		else
			write_ier(serial, value);
		break;
	case REG_IIR:
		write_fcr(serial, value);
		break;
	case REG_LCR:
		serial->lcr = value;
		break;
	case REG_MCR:
		serial->mcr = value & 0x1F;
		update_modem(serial);
		break;
	case REG_SCR:
		serial->scr = value;
		break;
	default: /* LSR and MSR are read-only */
		break;
	}
	return false;
}

/* After an access: whether the owner should be told that there is room again. */
static bool room_again(struct serial *serial)
{
	bool room = serial->count < rx_capacity(serial) && !(serial->mcr & MCR_LOOP);
	bool again = serial->refused && room;

	if (again)
		serial->refused = false;
	return again && serial->ops->input_ready;
}

/* A wider access is byte accesses in a row, as the ISA bridge makes of it. */
static void port_read(void *owner, uint64_t offset, void *data, unsigned int len)
{
	struct serial *serial = owner;
	uint8_t *bytes = data;
	bool ready;

	pthread_mutex_lock(&serial->lock);
	for (unsigned int i = 0; i < len; i++)
		bytes[i] = read_reg(serial, offset + i);
	update_line(serial);
	ready = room_again(serial);
	pthread_mutex_unlock(&serial->lock);
	if (ready)
		serial->ops->input_ready(serial->owner);
}

static void send(struct serial *serial, const uint8_t *byte)
{
	moment_note(&serial->seen.byte);
	if (*byte == '\n')
		moment_note(&serial->seen.line);
	serial->ops->output(serial->owner, byte, 1);
}

static void port_write(void *owner, uint64_t offset, const void *data, unsigned int len)
{
	struct serial *serial = owner;
	const uint8_t *bytes = data;
	bool out = false, ready;

	pthread_mutex_lock(&serial->lock);
	/* Only register 0 sends, so a write sends its first byte or none. */
	for (unsigned int i = 0; i < len; i++)
		out |= write_reg(serial, offset + i, bytes[i]);
	update_line(serial);
	ready = room_again(serial);
	pthread_mutex_unlock(&serial->lock);
	if (out)
		send(serial, bytes);
	if (ready)
		serial->ops->input_ready(serial->owner);
}

static const struct bus_ops port_ops = {
	.read = port_read,
	.write = port_write,
};

size_t serial_input(struct serial *serial, const uint8_t *data, size_t len)
{
	size_t taken = 0;

	pthread_mutex_lock(&serial->lock);
	/* In loopback the receiver is off the wire. */
	if (!(serial->mcr & MCR_LOOP)) {
		while (taken < len && rx_put(serial, data[taken]))
			taken++;
	}
	serial->refused |= taken < len;
	update_line(serial);
	pthread_mutex_unlock(&serial->lock);
	return taken;
}

int serial_create(struct vm *vm, uint16_t base, uint32_t irq, const struct serial_ops *ops,
		  void *owner, struct serial **out)
{
	struct serial *serial = calloc(1, sizeof(*serial));
	int ret;

	if (!serial)
		return -ENOMEM;
	serial->vm = vm;
	serial->base = base;
	serial->irq = irq;
	serial->ops = ops;
	serial->owner = owner;
	serial->dll = 12; /* 9600 baud */
	serial->msr = modem_lines(serial);
	pthread_mutex_init(&serial->lock, NULL);
	ret = bus_add(&vm->pio, base, REG_COUNT, &port_ops, serial);
	if (ret < 0) {
		pthread_mutex_destroy(&serial->lock);
		free(serial);
		return ret;
	}
	*out = serial;
	return 0;
}

void serial_destroy(struct serial *serial)
{
	if (!serial)
		return;
	bus_del(&serial->vm->pio, serial->base);
	pthread_mutex_destroy(&serial->lock);
	free(serial);
}

const struct serial_seen *serial_seen(const struct serial *serial)
{
	return &serial->seen;
}

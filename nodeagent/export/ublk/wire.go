package ublk

import "unsafe"

// Codes of control commands and of commands of a tag.
const (
	dirRead      = 2 << 30
	dirReadWrite = 3 << 30
	ofControl    = 32<<16 | 'u'<<8
	ofTag        = 16<<16 | 'u'<<8

	ctlGetInfo       = dirRead | ofControl | 0x02
	ctlAdd           = dirReadWrite | ofControl | 0x04
	ctlDelete        = dirReadWrite | ofControl | 0x05
	ctlStart         = dirReadWrite | ofControl | 0x06
	ctlStop          = dirReadWrite | ofControl | 0x07
	ctlSetParameters = dirReadWrite | ofControl | 0x08
	ctlStartRecovery = dirReadWrite | ofControl | 0x10
	ctlEndRecovery   = dirReadWrite | ofControl | 0x11
	ctlGetFeatures   = dirRead | ofControl | 0x13
	ctlDeleteLater   = dirRead | ofControl | 0x14
	ctlUpdateSize    = dirReadWrite | ofControl | 0x15
	ctlTryStop       = dirReadWrite | ofControl | 0x17

	ioFetch  = dirReadWrite | ofTag | 0x20
	ioCommit = dirReadWrite | ofTag | 0x21 // and fetch the tag's next request
)

// Flags of devices, and features of drivers.
const (
	flagRecovery     = 1 << 3
	flagReissue      = 1 << 4
	flagIoctlCodes   = 1 << 6
	flagUpdateSize   = 1 << 10
	flagSafeStop     = 1 << 17
	flagNoPartitions = 1 << 18

	needed = flagRecovery | flagReissue | flagIoctlCodes | flagUpdateSize
)

// States of devices.
const (
	stateDead     = 0 // or not started
	stateQuiesced = 2 // it waits for the next server
)

// Operations of requests.
const (
	opRead        = 0
	opWrite       = 1
	opFlush       = 2
	opDiscard     = 3
	opWriteZeroes = 5
)

// flagFUA is a request's: the write is durable before its answer.
const flagFUA = 1 << 13

// Kinds and attributes of parameters.
const (
	paramBasic   = 1 << 0
	paramDiscard = 1 << 1

	attrReadOnly = 1 << 0
	attrCache    = 1 << 2 // the device wants flushes
	attrFUA      = 1 << 3
)

const (
	anyDevice = ^uint32(0)
	noQueue   = ^uint16(0)

	sectorLog  = 9
	blockLog   = 12
	clearLimit = 1 << 30 // bytes of a discard or of write-zeroes: the kernel splits what is longer
)

// controlCmd is struct ublksrv_ctrl_cmd.
type controlCmd struct {
	device uint32
	queue  uint16
	size   uint16
	addr   uint64
	arg    uint64
	_      uint64
}

// deviceInfo is struct ublksrv_ctrl_dev_info.
type deviceInfo struct {
	queues, depth, state, _ uint16
	maxIO                   uint32
	device                  uint32
	pid                     int32
	_                       uint32
	flags                   uint64
	cookie                  uint64
	_                       [3]uint64
}

// parameters is the start of struct ublk_params: what is behind it stays as it is.
type parameters struct {
	size, kinds uint32

	attrs                      uint32
	logical, physical, opt, io uint8
	maxSectors, _              uint32
	sectors, _                 uint64

	_, discardUnit               uint32
	discardSectors, zeroesSector uint32
	discardSegments, _           uint16
	_                            uint32
}

// ioDesc is struct ublksrv_io_desc.
type ioDesc struct {
	opFlags, sectors uint32
	start, addr      uint64
}

func (d *ioDesc) op() uint32 { return d.opFlags & 0xff }

// tagCmd is struct ublksrv_io_cmd.
type tagCmd struct {
	queue, tag uint16
	result     int32
	addr       uint64
}

// The kernel's sizes.
var (
	_ [32]byte = [unsafe.Sizeof(controlCmd{})]byte{}
	_ [64]byte = [unsafe.Sizeof(deviceInfo{})]byte{}
	_ [64]byte = [unsafe.Sizeof(parameters{})]byte{}
	_ [24]byte = [unsafe.Sizeof(ioDesc{})]byte{}
	_ [16]byte = [unsafe.Sizeof(tagCmd{})]byte{}
)

// bytesOf is v's memory.
func bytesOf[T any](v *T) []byte { return unsafe.Slice((*byte)(unsafe.Pointer(v)), unsafe.Sizeof(*v)) }

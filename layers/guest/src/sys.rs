//! System calls that no safe wrapper covers: the only unsafe code of the guest.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Bytes of `struct dm_ioctl` (kernel, `include/uapi/linux/dm-ioctl.h`).
pub const DM_HEADER: usize = 312;

/// One device-mapper ioctl. `buffer` starts with a `struct dm_ioctl` whose
/// `data_size`, at byte 12, is the length of `buffer`.
pub fn dm_ioctl(control: BorrowedFd<'_>, command: u8, buffer: &mut [u8]) -> io::Result<()> {
    let declared = buffer
        .get(12..16)
        .and_then(|raw| raw.try_into().ok())
        .map(u32::from_ne_bytes)
        .and_then(|size| usize::try_from(size).ok());
    if buffer.len() < DM_HEADER || declared != Some(buffer.len()) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let request = nix::request_code_readwrite!(0xfd, command, DM_HEADER);
    // SAFETY: the kernel reads and writes at most `data_size` bytes at the
    // pointer, which was just checked to be the length of the exclusive borrow.
    let code = unsafe { libc::ioctl(control.as_raw_fd(), request, buffer.as_mut_ptr()) };
    if code < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// A raw packet socket (packet(7)) for IPv4 frames of one interface. Frames are
/// read and written whole, with their Ethernet header; it does not block.
pub fn packet_socket(interface: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let protocol = u16::try_from(libc::ETH_P_IP)
        .map_err(io::Error::other)?
        .to_be();
    let family = u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
    let index = i32::try_from(interface).map_err(io::Error::other)?;
    let length =
        libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: no pointers are passed; a result that is not negative is a new
    // descriptor that nothing else owns.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_PACKET, kind, i32::from(protocol));
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let address = libc::sockaddr_ll {
        sll_family: family,
        sll_protocol: protocol,
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is to a live sockaddr_ll and the length is its size.
    let code = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            length,
        )
    };
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// Gives the calling thread the processor and the disk only when nobody else
/// wants them (SCHED_IDLE of sched(7), the idle class of ioprio_set(2)).
pub fn idle_thread() -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_IDLE: libc::c_int = 3 << 13;
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: thread 0 is the caller; the pointer is to a live sched_param.
    let scheduled = unsafe { libc::sched_setscheduler(0, libc::SCHED_IDLE, &raw const parameter) };
    // SAFETY: only integers are passed.
    let ranked = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE) };
    if scheduled < 0 || ranked < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Whether the processor is QEMU's emulation of one (its CPUID leaf for
/// hypervisors, as in `target/i386/cpu.c`): there, vector code runs slower than plain.
pub fn emulated_processor() -> bool {
    const HYPERVISOR: u32 = 0x4000_0000;
    let leaf = std::arch::x86_64::__cpuid(HYPERVISOR);
    let name: Vec<u8> = [leaf.ebx, leaf.ecx, leaf.edx]
        .iter()
        .flat_map(|part| part.to_le_bytes())
        .collect();
    name == b"TCGTCGTCGTCG"
}

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

/// A raw packet socket (packet(7)) of one interface. Frames are written whole, with
/// their Ethernet header; it hears those that come to this UDP port over IPv4, or
/// nothing at all. It does not block.
pub fn packet_socket(interface: u32, port: Option<u16>) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers are passed; a result that is not negative is a new
    // descriptor that nothing else owns.
    let socket = unsafe {
        // Protocol 0 hears nothing, until the socket is bound to another.
        let fd = libc::socket(libc::AF_PACKET, kind, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    if let Some(port) = port {
        filter_udp(&socket, port)?;
    }
    let protocol = port.map_or(0, |_| libc::ETH_P_IP);
    let address = libc::sockaddr_ll {
        sll_family: number(libc::AF_PACKET)?,
        sll_protocol: number::<u16>(protocol)?.to_be(),
        sll_ifindex: number(interface)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = number(size_of::<libc::sockaddr_ll>())?;
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

fn number<T>(
    value: impl TryInto<T, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
) -> io::Result<T> {
    value.try_into().map_err(io::Error::other)
}

/// Has the kernel drop every frame but those to a UDP port over IPv4, and of
/// fragments all but the first (kernel, `Documentation/networking/filter.rst`).
fn filter_udp(socket: &OwnedFd, port: u16) -> io::Result<()> {
    const HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
    const BYTE: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
    const HALF_BEHIND: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
    const HEADER: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
    const EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    const ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
    // What to do, with which constant, and how many to skip if true and if not.
    let steps: [(u32, u32, u8, u8); 11] = [
        (HALF, 12, 0, 0),
        (EQUAL, 0x0800, 0, 8),
        (BYTE, 23, 0, 0),
        (EQUAL, 17, 0, 6),
        (HALF, 20, 0, 0),
        (ANY_BIT, 0x1fff, 4, 0),
        (HEADER, 14, 0, 0),
        (HALF_BEHIND, 16, 0, 0),
        (EQUAL, port.into(), 0, 1),
        (RETURN, u32::MAX, 0, 0),
        (RETURN, 0, 0, 0),
    ];
    let mut filter = Vec::new();
    for (code, k, jt, jf) in steps {
        let code = number(code)?;
        filter.push(libc::sock_filter { code, jt, jf, k });
    }
    let program = libc::sock_fprog {
        len: number(filter.len())?,
        filter: filter.as_mut_ptr(),
    };
    let size = number(size_of::<libc::sock_fprog>())?;
    // SAFETY: the kernel copies `len` instructions from the live vector.
    let code = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            std::ptr::from_ref(&program).cast(),
            size,
        )
    };
    if code < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::net::UdpSocket;

    use std::os::fd::AsFd;

    use nix::net::if_::if_nametoindex;
    use nix::poll::{PollFd, PollFlags, poll};

    use super::*;

    /// By the kernel itself, on loopback: needs root, as the guest has it.
    #[test]
    fn only_frames_to_the_port_are_heard() {
        let loopback = if_nametoindex("lo").unwrap();
        let [mine, other] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        let to = |socket: &UdpSocket| socket.local_addr().unwrap();
        let socket = packet_socket(loopback, Some(to(&mine).port())).expect("this test needs root");
        let deaf = packet_socket(loopback, None).unwrap();
        for (socket, words) in [(&other, "no"), (&mine, "yes"), (&other, "no")] {
            other.send_to(words.as_bytes(), to(socket)).unwrap();
        }
        let mut frame = [0; 2048];
        let mut heard = || {
            File::from(socket.try_clone().unwrap())
                .read(&mut frame)
                .map(|count| frame[..count].to_vec())
        };
        // The kernel may deliver it a little later.
        let mut waiting = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, 10_000_u16).unwrap();
        let first = heard().unwrap();
        assert_eq!(first[12..14], [8, 0]);
        assert!(first.ends_with(b"yes"), "{first:?}");
        assert_eq!(heard().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let nothing = File::from(deaf).read(&mut [0; 2048]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
}

//! The wire between the server and a child: a message, bytes beside it, and perhaps a descriptor.
//!
//! A message is two lengths (of the message, 4 bytes; of the bytes beside it, 8 bytes; little
//! endian), the message as JSON, and the bytes.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Longest message: the facts of thousands of frames.
const MESSAGE_MAX: u32 = 16 << 20;
/// Bytes of the two lengths.
const HEAD: usize = 12;

/// A message as it comes in: what it says, and how many bytes follow it.
pub(super) struct Message<T> {
    pub(super) said: T,
    pub(super) bytes: u64,
}

/// Sends a message and the bytes beside it.
pub(super) fn send<T: Serialize>(
    stream: &mut impl Write,
    message: &T,
    beside: &[u8],
) -> io::Result<()> {
    let json = serde_json::to_vec(message)?;
    let length = u32::try_from(json.len()).ok().filter(|length| *length <= MESSAGE_MAX);
    let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::FileTooLarge))?;
    let mut head = Vec::with_capacity(HEAD + json.len());
    head.extend_from_slice(&length.to_le_bytes());
    head.extend_from_slice(&(beside.len() as u64).to_le_bytes());
    head.extend_from_slice(&json);
    stream.write_all(&head)?;
    stream.write_all(beside)
}

/// Receives a message; the bytes that follow are still to be read.
pub(super) fn receive<T: DeserializeOwned>(stream: &mut impl Read) -> io::Result<Message<T>> {
    let (mut length, mut bytes) = ([0; 4], [0; 8]);
    stream.read_exact(&mut length)?;
    stream.read_exact(&mut bytes)?;
    let length = u32::from_le_bytes(length);
    if length > MESSAGE_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut json = vec![0; length as usize];
    stream.read_exact(&mut json)?;
    Ok(Message { said: serde_json::from_slice(&json)?, bytes: u64::from_le_bytes(bytes) })
}

/// Sends a descriptor, on one byte of its own.
pub(super) fn send_descriptor(stream: &UnixStream, descriptor: impl AsFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(stream, &[IoSlice::new(&[0])], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a descriptor; none when the other side has gone.
pub(super) fn receive_descriptor(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut byte)],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let descriptor = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    descriptor.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::{receive, receive_descriptor, send, send_descriptor};

    #[test]
    fn messages_bytes_and_descriptors_arrive_as_they_were_sent() {
        let (mut here, mut there) = UnixStream::pair().expect("a pair");
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"content").expect("written");

        send_descriptor(&here, &file).expect("sent");
        send(&mut here, &vec!["a", "b"], b"beside").expect("sent");
        drop(here);

        assert!(receive_descriptor(&there).expect("received").is_some());
        let message = receive::<Vec<String>>(&mut there).expect("received");
        let mut beside = Vec::new();
        there.read_to_end(&mut beside).expect("read");
        assert_eq!((message.said.join(""), message.bytes), ("ab".to_owned(), 6));
        assert_eq!(beside, b"beside");
        assert!(receive_descriptor(&there).expect("the other side has gone").is_none());
    }

    #[test]
    fn a_length_that_cannot_be_is_refused_before_memory_is_taken() {
        let (mut here, mut there) = UnixStream::pair().expect("a pair");
        here.write_all(&[0xFF; 12]).expect("sent");

        assert!(receive::<Vec<String>>(&mut there).is_err());
    }
}

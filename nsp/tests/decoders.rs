//! What is written is read back, and what is not a message never does more than fail.
#![allow(clippy::unwrap_used, reason = "tests")]

use bytes::{Bytes, BytesMut};
use nsp::proto::{
    Data, DecodeError, EntityId, Failure, Leg, Method, Methods, Packet, Payload, RawJson, RequestId, Status,
    au, ca, cs, frame, gt, sp, text,
};
use nsp::{DaemonKey, Password, Proof, Token};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    ".{0,20}"
}

fn entity() -> impl Strategy<Value = EntityId> {
    prop_oneof![
        any::<[u8; 16]>().prop_map(EntityId::from_bits),
        ".{0,40}".prop_filter_map("too long", |id| EntityId::new(&id)),
    ]
}

fn json() -> impl Strategy<Value = RawJson> {
    prop_oneof![
        Just(RawJson::NULL),
        any::<i64>().prop_map(|n| RawJson::of(&n).unwrap()),
        name().prop_map(|text| RawJson::of(&text).unwrap()),
        vec((name(), any::<Option<bool>>()), 0..4).prop_map(|pairs| {
            RawJson::of(&pairs.into_iter().collect::<std::collections::BTreeMap<_, _>>()).unwrap()
        }),
    ]
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn data() -> impl Strategy<Value = Data> {
    prop_oneof![Just(Data::None), json().prop_map(Data::Json), blob().prop_map(Data::Blob)]
}

fn id() -> impl Strategy<Value = RequestId> {
    prop_oneof![
        any::<u64>().prop_map(RequestId::numbered),
        json().prop_filter_map("too long", RequestId::new),
    ]
}

fn status() -> impl Strategy<Value = Status> {
    let text = name().prop_filter("means success", |text| text != "OK");
    let failure = (option::of(text), option::of(name()), option::of(name()));
    prop_oneof![
        Just(Status::Ok),
        failure.prop_map(|(text, code, id)| Status::Failed(Box::new(Failure { text, code, id }))),
    ]
}

fn mode() -> impl Strategy<Value = cs::Mode> {
    prop_oneof![Just(cs::Mode::Normal), Just(cs::Mode::Daemon)]
}

fn cs_request() -> impl Strategy<Value = cs::Request> {
    let some = || option::of(".{1,20}");
    let create = (id(), some(), mode(), name(), some(), option::of(name()), option::of(json())).prop_map(
        |(id, owner, mode, service, owner_domain, key, description)| {
            let key = key.map(DaemonKey::new);
            cs::Create { id, owner, mode, service, owner_domain, key, description }
        },
    );
    prop_oneof![
        create.prop_map(|create| cs::Request::Create(Box::new(create))),
        entity().prop_map(|entity| cs::Request::Verify { entity }),
        entity().prop_map(|entity| cs::Request::Close { entity }),
        (entity(), data()).prop_map(|(entity, data)| cs::Request::Send { entity, data }),
        (entity(), name(), id(), data()).prop_map(|(entity, function, id, data)| cs::Request::Call {
            entity,
            function,
            id,
            data
        }),
        (entity(), name(), id(), option::of(json()), data()).prop_map(
            |(entity, function, id, meta, data)| {
                cs::Request::CallBlob { entity, function, id, meta, data }
            }
        ),
    ]
}

fn cs_answer() -> impl Strategy<Value = cs::Answer> {
    prop_oneof![
        (id(), entity()).prop_map(|(id, entity)| cs::Answer::Created { id, result: Ok(entity) }),
        (id(), option::of(name()), option::of(name())).prop_map(|(id, code, failure)| {
            let failure = Failure { text: None, code, id: failure };
            cs::Answer::Created { id, result: Err(Box::new(failure)) }
        }),
        (entity(), status()).prop_map(|(entity, status)| cs::Answer::Verified { entity, status }),
        (entity(), status()).prop_map(|(entity, status)| cs::Answer::Sent { entity, status }),
        (id(), entity(), status(), data()).prop_map(|(id, entity, status, data)| cs::Answer::Returned {
            id,
            entity,
            status,
            data
        }),
        (id(), entity(), status(), option::of(json()), data()).prop_map(
            |(id, entity, status, meta, data)| {
                cs::Answer::ReturnedBlob { id, entity, status, meta, data }
            }
        ),
    ]
}

fn ca_request() -> impl Strategy<Value = ca::Request> {
    prop_oneof![
        (entity(), data()).prop_map(|(entity, data)| ca::Request::Data { entity, data }),
        (entity(), name(), data()).prop_map(|(entity, event, data)| ca::Request::Event {
            entity,
            event,
            data
        }),
        (entity(), name(), option::of(json()), data())
            .prop_map(|(entity, event, meta, data)| ca::Request::BlobEvent { entity, event, meta, data }),
        entity().prop_map(|entity| ca::Request::Close { entity }),
    ]
}

fn au_request() -> impl Strategy<Value = au::Request> {
    use au::{Notice, Question};
    let question = prop_oneof![Just(Question::Token), Just(Question::Password)];
    let notice = prop_oneof![Just(Notice::TokenFailed), Just(Notice::PasswordFailed), Just(Notice::SignIn)];
    prop_oneof![
        (question, id(), option::of(name())).prop_map(|(question, id, user)| au::Request::Ask {
            question,
            id,
            user
        }),
        (notice, option::of(entity())).prop_map(|(notice, entity)| au::Request::Tell { notice, entity }),
    ]
}

/// Sends a packet through both binary forms.
fn carried(packet: &Packet) -> Packet {
    let methods = Methods::default();
    let mut out = BytesMut::new();
    packet.encode(&methods, &mut out).unwrap();
    let received = Packet::decode(out.freeze(), &methods).unwrap();

    let framed = frame::PacketFrame::from(&received);
    let body: Vec<u8> = framed.head.iter().chain(framed.blob.iter().flatten()).copied().collect();
    match frame::Received::from_frame(framed.name(), framed.kind, body.into()).unwrap() {
        frame::Received::Packet(packet) => packet,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn calls_are_read_as_they_were_written(request in cs_request(), answer in cs_answer()) {
        prop_assert_eq!(cs::Request::decode(&carried(&request.encode())).unwrap(), request);
        prop_assert_eq!(cs::Answer::decode(&carried(&answer.encode())).unwrap(), answer);
    }

    #[test]
    fn pushes_are_read_as_they_were_written(request in ca_request()) {
        prop_assert_eq!(ca::Request::decode(&carried(&request.encode())).unwrap(), request.clone());
        if let Some(answer) = request.acknowledgement() {
            prop_assert_eq!(ca::Answer::decode(&carried(&answer.encode())).unwrap(), answer);
        }
    }

    #[test]
    fn authorization_is_read_as_it_was_written(request in au_request(), id in id(), value in option::of(".{1,9}")) {
        prop_assert_eq!(au::Request::decode(&carried(&request.encode())).unwrap(), request);
        let answer = au::Answer { question: au::Question::Password, id, value: value.map(Proof::new) };
        prop_assert_eq!(au::Answer::decode(&carried(&answer.encode())).unwrap(), answer);
    }

    #[test]
    fn tokens_and_keys_are_read_as_they_were_written(user in name(), password in name(), token in option::of(name())) {
        let request = gt::Request { user: user.clone(), password: Some(Password::new(password.clone())) };
        prop_assert_eq!(gt::Request::decode(&carried(&request.encode())).unwrap(), request);
        let answer = gt::Answer { user: Some(user), token: token.map(Token::new) };
        prop_assert_eq!(gt::Answer::decode(&carried(&answer.encode())).unwrap(), answer);
        let request = sp::Request { public_key: password.clone() };
        prop_assert_eq!(sp::Request::decode(&carried(&request.encode())).unwrap(), request);
        let answer = sp::Answer { sealed: password };
        prop_assert_eq!(sp::Answer::decode(&carried(&answer.encode())).unwrap(), answer);
    }

    #[test]
    fn text_dialects_carry_what_they_know(request in cs_request(), answer in cs_answer()) {
        use text::Dialect;
        for dialect in [Dialect::V0_4_0, Dialect::V0_4_1, Dialect::V0_4_2] {
            let packet = request.encode();
            match text::encode(&packet, dialect) {
                Ok(message) => {
                    let back = text::decode(&message, dialect).unwrap();
                    prop_assert_eq!(cs::Request::decode(&back).unwrap(), request.clone());
                }
                Err(_) => {
                    let blob_call = matches!(request, cs::Request::CallBlob { .. });
                    prop_assert!(packet.payload.blob.is_some() || blob_call);
                }
            }
            let packet = answer.encode();
            match text::encode(&packet, dialect) {
                Ok(message) => {
                    let back = cs::Answer::decode(&text::decode(&message, dialect).unwrap()).unwrap();
                    match (&answer, dialect) {
                        // The oldest has no room for the reason of a refusal.
                        (cs::Answer::Created { id, result: Err(_) }, Dialect::V0_4_0) => {
                            let result = Err(Box::default());
                            prop_assert_eq!(back, cs::Answer::Created { id: id.clone(), result });
                        }
                        _ => prop_assert_eq!(&back, &answer),
                    }
                }
                Err(_) => {
                    let blob_call = matches!(answer, cs::Answer::ReturnedBlob { .. });
                    prop_assert!(packet.payload.blob.is_some() || blob_call);
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_only_ever_fail(bytes in vec(any::<u8>(), 0..120)) {
        everything_is_tried_on(&Bytes::from(bytes));
    }

    #[test]
    fn arbitrary_json_only_ever_fails(
        body in r#"\{"m":"(CE|VE|SS|SF|BS|CS|AS|EV|BE|TK|PW|TF|XX)","d":(\{"[itnosdmkev]":("[a-z\\]*"|[0-9]|null|\{\}|\[)(,"[itnosdmk]":("x"|5|null|false)){0,4}\}?|null|5|\[\])\}"#,
    ) {
        everything_is_tried_on(&Bytes::from(body));
    }

    #[test]
    fn what_is_read_is_never_longer_than_what_came(bytes in vec(any::<u8>(), 0..200), digits in 0_u64..300) {
        let mut message = format!("CSrq{digits:016}").into_bytes();
        message.extend(bytes);
        let message = Bytes::from(message);
        if let Ok(packet) = Packet::decode(message.clone(), &Methods::default()) {
            let range = message.as_ptr_range();
            for part in [Some(&packet.payload.json), packet.payload.blob.as_ref()].into_iter().flatten() {
                // Parts of the message itself, so nothing was allocated for them.
                prop_assert!(part.is_empty() || range.contains(&part.as_ptr()));
                prop_assert!(part.len() <= message.len());
            }
        }
    }
}

fn everything_is_tried_on(bytes: &Bytes) {
    let methods = Methods::default();
    let _ = Packet::decode(bytes.clone(), &methods);
    for name in ["CSrq", "CArs", "NSPS", "é"] {
        let _ = frame::Received::from_frame(name, frame::Kind::Bytes, bytes.clone());
    }
    for dialect in [text::Dialect::V0_4_0, text::Dialect::V0_4_2] {
        let _ = text::decode(bytes, dialect);
    }
    for leg in [Leg::Request, Leg::Answer] {
        for method in [Method::Sp, Method::Gt, Method::Au, Method::Cs, Method::Ca] {
            let packet = Packet::new(method, leg, Payload { json: bytes.clone(), blob: Some(bytes.clone()) });
            let results = [
                sp::Request::decode(&packet).err(),
                sp::Answer::decode(&packet).err(),
                gt::Request::decode(&packet).err(),
                gt::Answer::decode(&packet).err(),
                au::Request::decode(&packet).err(),
                au::Answer::decode(&packet).err(),
                cs::Request::decode(&packet).err(),
                cs::Answer::decode(&packet).err(),
                ca::Request::decode(&packet).err(),
                ca::Answer::decode(&packet).err(),
            ];
            // Nine of the ten read another packet, and say so.
            let others = |error: &&DecodeError| matches!(error, DecodeError::OtherPacket { .. });
            assert_eq!(results.iter().flatten().filter(others).count(), 9);
            for dialect in [text::Dialect::V0_4_0, text::Dialect::V0_4_2] {
                let packet = Packet::new(method, leg, bytes.clone());
                let _ = text::encode(&packet, dialect);
            }
        }
    }
}

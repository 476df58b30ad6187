use http::{HeaderMap, HeaderName, HeaderValue};

use super::*;

const READER: &str = "reader-secret-0123456789";
const SHOP: &str = "shop-secret-0123456789ab";

fn access(tenants: bool) -> Access {
    let tenants = match tenants {
        true => r#", "tenants": {"known": {"shop": {}, "bank": {"spans-per-second": 5}}}"#,
        false => "",
    };
    let shop = match tenants {
        "" => "",
        _ => r#""tenant": "shop","#,
    };
    let text = format!(
        r#"{{"tokens": [
            {{"name": "reader", "token": "{READER}", "scopes": ["read"]}},
            {{"name": "shop", "token": "{SHOP}", {shop} "scopes": ["read", "write"]}}
        ]{tenants}}}"#
    );
    Access::new(&serde_json::from_str(&text).unwrap()).unwrap()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::try_from(*value).unwrap(),
        )
    };
    let mut map = HeaderMap::new();
    for (name, value) in pairs.iter().map(pair) {
        map.append(name, value);
    }
    map
}

#[test]
fn tokens_open_what_their_scopes_say() {
    let access = access(false);
    let reader = format!("Bearer {READER}");
    let shop = format!("bearer  {SHOP} ");
    let cookie = format!("a=b; periplus-token={READER}; c=d");
    let lacks = Denied::LacksScope("reader".to_owned(), Scope::Write);
    for (pairs, scope, expected) in [
        (vec![], Scope::Read, Err(Denied::NoToken)),
        (
            vec![("authorization", "Basic x")],
            Scope::Read,
            Err(Denied::NoToken),
        ),
        (
            vec![("authorization", "Bearer nobodys-secret-0123")],
            Scope::Read,
            Err(Denied::UnknownToken),
        ),
        (vec![("authorization", &*reader)], Scope::Read, Ok(None)),
        (vec![("authorization", &*reader)], Scope::Write, Err(lacks)),
        (vec![("authorization", &*shop)], Scope::Write, Ok(None)),
        (vec![("cookie", &*cookie)], Scope::Read, Ok(None)),
    ] {
        assert_eq!(access.check(&headers(&pairs), scope), expected, "{pairs:?}");
    }
}

#[test]
fn tenants_are_named_by_a_header_or_by_the_token() {
    let access = access(true);
    let reader = ("authorization", format!("Bearer {READER}"));
    let shop = ("authorization", format!("Bearer {SHOP}"));
    let tenant = |name| Ok(Tenant::new(name));
    for (token, names, expected) in [
        (&reader, vec![], Err(Denied::NoTenant)),
        (&reader, vec!["bank"], tenant("bank")),
        (&reader, vec!["mill"], Err(Denied::UnknownTenant)),
        (&reader, vec!["../x"], Err(Denied::UnknownTenant)),
        (&reader, vec!["bank", "shop"], Err(Denied::ExtraTenant)),
        (&shop, vec![], tenant("shop")),
        (&shop, vec!["shop"], tenant("shop")),
        (
            &shop,
            vec!["bank"],
            Err(Denied::ForeignTenant("shop".to_owned())),
        ),
    ] {
        let mut pairs = vec![(token.0, &*token.1)];
        pairs.extend(names.iter().map(|name| ("X-Tenant", *name)));
        let found = access.check(&headers(&pairs), Scope::Read);
        assert_eq!(found, expected, "{names:?}");
    }
    assert!(
        access
            .check_operator(&headers(&[(reader.0, &reader.1)]))
            .is_ok()
    );
    assert!(
        access
            .check_operator(&headers(&[(shop.0, &shop.1)]))
            .is_err()
    );
}

#[test]
fn names_of_tenants_are_names_of_directories() {
    for name in ["a", "shop", "0", "a.b-c_d", &"x".repeat(63)] {
        assert!(Tenant::new(name).is_some(), "{name}");
    }
    for name in ["", ".", "..", "A", "a/b", "a b", "-a", "é", &"x".repeat(64)] {
        assert!(Tenant::new(name).is_none(), "{name}");
    }
}

#[test]
fn what_is_wrong_is_said_and_secrets_are_not() {
    for (text, expected) in [
        (
            r#"{"tokens": [{"name": "a", "scopes": ["read"]}]}"#,
            "token 'a' needs either 'token' or 'token-file'",
        ),
        (
            r#"{"tokens": [{"name": "a", "token": "short", "scopes": ["read"]}]}"#,
            "the secret of token 'a' is shorter than 16 bytes",
        ),
        (
            r#"{"tokens": [{"name": "a", "token": "0123456789abcdef", "scopes": []}]}"#,
            "token 'a' has no scopes",
        ),
        (
            r#"{"tokens": [{"name": "a", "token": "0123456789abcdef", "scopes": ["read"]},
                           {"name": "b", "token": "0123456789abcdef", "scopes": ["read"]}]}"#,
            "tokens 'a' and 'b' have the same secret",
        ),
        (
            r#"{"tenants": {"known": {"A": {}}}}"#,
            "'A' cannot name a tenant",
        ),
        (
            r#"{"tenants": {"header": "a b"}}"#,
            "'a b' cannot be the name of a header",
        ),
        (
            r#"{"tokens": [{"name": "a", "token": "0123456789abcdef", "tenant": "x",
                            "scopes": ["read"]}]}"#,
            "token 'a' is for the tenant 'x', which is not among the known ones",
        ),
    ] {
        let config: AccessConfig = serde_json::from_str(text).unwrap();
        let error = Access::new(&config).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
        assert!(!format!("{error} {config:?}").contains("0123456789abcdef"));
    }
    assert!(!format!("{:?}", access(true)).contains("secret-"));
}

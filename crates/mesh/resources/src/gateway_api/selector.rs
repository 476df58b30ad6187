use crate::meta::Labels;
use crate::view::{Shape, View};

/// Kubernetes' `LabelSelector`; an empty one selects all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    labels: Labels,
    expressions: Vec<Expression>,
}

/// One of `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Expression {
    key: String,
    operator: Operator,
    values: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

impl LabelSelector {
    pub(super) fn read(view: &View<'_>) -> Option<Self> {
        const SELECTOR: Shape = Shape {
            known: &["matchLabels", "matchExpressions"],
            refused: &[],
        };
        let object = view.object(&SELECTOR)?;
        let labels = object.get("matchLabels").map(View::text_map);
        let expressions = object.items("matchExpressions");
        Some(Self {
            labels: labels.unwrap_or_default(),
            expressions: expressions
                .iter()
                .map(Expression::read)
                .collect::<Option<_>>()?,
        })
    }

    /// Whether something with these labels is selected.
    pub fn selects(&self, labels: &Labels) -> bool {
        let mut own = self.labels.iter();
        let mut expressions = self.expressions.iter();
        own.all(|(key, value)| labels.get(key) == Some(value))
            && expressions.all(|expression| expression.holds(labels.get(&expression.key)))
    }
}

impl Expression {
    fn read(view: &View<'_>) -> Option<Self> {
        const EXPRESSION: Shape = Shape {
            known: &["key", "operator", "values"],
            refused: &[],
        };
        let object = view.object(&EXPRESSION)?;
        let operators = [
            ("In", Operator::In),
            ("NotIn", Operator::NotIn),
            ("Exists", Operator::Exists),
            ("DoesNotExist", Operator::DoesNotExist),
        ];
        let operator = object.require("operator")?.choice(&operators)?;
        let values = object.items("values");
        let takes_values = matches!(operator, Operator::In | Operator::NotIn);
        if takes_values == values.is_empty() {
            object
                .fail("`values` go with `In` and `NotIn`, which need some, and with nothing else");
            return None;
        }
        Some(Self {
            key: object.require("key")?.some_text()?,
            operator,
            values: values.iter().map(View::text).collect::<Option<_>>()?,
        })
    }

    fn holds(&self, value: Option<&String>) -> bool {
        let is_listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => is_listed,
            Operator::NotIn => !is_listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}
